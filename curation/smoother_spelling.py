"""What a smoother writes otherwise than it was said: words that its pairs always replace, and marks that they add.

A word goes into the table where the pairs write it otherwise nearly always: 帐号 becomes 账号 for people who write so.
A mark is added to a text's end where the pairs do that nearly always, by the character before it: 吗 becomes 吗？. What
depends on more than that (他 or 她) is left as it was said.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from curation.draft import Edit
from curation.smoothing.words import Vocabulary

LEAST, SHARE = 5, 0.9
"""How often something must have been written otherwise, and in which share of all its places."""
LONGEST = 8
MARKS = frozenset("。！？!?.…")
ANY = ""
"""In the table of marks, whatever stands before."""


@dataclass(frozen=True)
class Spelling:
    """What is written for words, and which marks are added after which last characters."""

    words: Mapping[str, str]
    marks: Mapping[str, str]

    def edits(self, text: str) -> Iterator[Edit]:
        """Edits of a text in order, by words as jieba's dictionary tells them; a mark replaces what it follows."""
        place = 0
        for word in Vocabulary.of().jieba.cut(text) if any(word in text for word in self.words) else ():
            if word in self.words:
                yield place, place + len(word), self.words[word], "grammar"
            place += len(word)
        last = text[-1:]
        if last.isalnum() and (mark := self.marks.get(last, self.marks.get(ANY))):
            yield len(text) - 1, len(text), last + mark, "grammar"


NOTHING = Spelling({}, {})


def learn_spelling(pairs: Sequence[tuple[str, str]], places: Sequence[Sequence[int]]) -> Spelling:
    """What pairs of spoken and written text always write otherwise.

    `places`: of each character of a spoken text, which one of the written text stands for it, -1 for none.
    """
    said: Counter[str] = Counter()
    written: dict[str, Counter[str]] = defaultdict(Counter)
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for (spoken, wanted), of in zip(pairs, places, strict=True):
        place = 0
        for word in Vocabulary.of().jieba.cut(spoken):
            first, *others = of[place : place + len(word)]
            place += len(word)
            if 1 < len(word) <= LONGEST and first >= 0:
                said[word] += 1
                if others == list(range(first + 1, first + len(word))):
                    written[word][wanted[first : first + len(word)]] += 1
        if spoken[-1:].isalnum() and wanted:
            mark = wanted[-1] if wanted[-1] in MARKS else ""
            ends[spoken[-1]][mark] += 1
            ends[ANY][mark] += 1
    words = {word: _always(counts, said[word]) for word, counts in sorted(written.items())}
    marks = {last: _always(counts, counts.total()) for last, counts in sorted(ends.items())}
    return Spelling(
        {word: otherwise for word, otherwise in words.items() if otherwise not in ("", word)},
        {last: mark for last, mark in marks.items() if mark},
    )


def _always(counts: Counter[str], total: int) -> str:
    """What is written nearly always; nothing where that differs."""
    ((written, times),) = counts.most_common(1)
    return written if times >= max(LEAST, SHARE * total) else ""
