"""Words of Chinese utterances, by jieba's dictionary in its Rust form."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rjieba

USER_WORD = 1_000_000
"""Frequency that makes a user's word win over its parts."""


@dataclass(frozen=True)
class Vocabulary:
    """jieba's dictionary, and words of a user that are never split."""

    jieba: "rjieba.Jieba"

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, user_words: tuple[str, ...] = ()) -> "Vocabulary":
        """Loads the dictionary, in a tenth of a second, at the first text that needs it."""
        import rjieba  # slow to load: many runs need no word of it

        if not user_words:  # the module has loaded the dictionary once for its functions
            return cls(rjieba.cut.__self__)  # type: ignore[attr-defined]
        jieba = rjieba.Jieba()
        for word in user_words:
            jieba.add_word(word, USER_WORD, "nz")
        return cls(jieba)

    def holds(self, word: str) -> bool:
        return self.jieba.has_word(word)

    def tag(self, word: str) -> str | None:
        """Part of speech of a word; None if it is none."""
        found = self.jieba.tag(word)
        return found[0][1] if len(found) == 1 else None

    def tags(self, text: str) -> list[str]:
        """Part of speech of each word of a text."""
        return [tag for _, tag in self.jieba.tag(text)]

    def words(self, text: str) -> "Words":
        return Words(self.jieba.cut(text))


class Words:
    """The words of a text and where they stand."""

    def __init__(self, words: list[str]) -> None:
        self._words, self._starts, place = words, [], 0
        for word in words:
            self._starts.append(place)
            place += len(word)

    def at(self, place: int) -> tuple[int, str]:
        """The word that covers an offset, and where it starts."""
        index = bisect_right(self._starts, place) - 1
        return self._starts[index], self._words[index]
