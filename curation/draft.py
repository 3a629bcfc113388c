"""A text in the making that remembers where its characters came from, so that edits are told against the original."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Edit = tuple[int, int, str, str]
"""(start, end, replacement, code); code-point offsets."""


@dataclass
class Draft:
    """A text under revision: changes are made to `text`, edits come out against `original`."""

    original: str
    text: str = field(init=False)
    origins: list[int] = field(init=False)
    """For each character of `text` the offset it came from, or that its replacement began at."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Code by offset of each character of the original that went or was replaced."""
    only_deleted: bool = True

    def __post_init__(self) -> None:
        self.text = self.original
        self.origins = list(range(len(self.original)))

    def delete(self, start: int, end: int, code: str) -> None:
        """Takes a slice out of the current text."""
        self.rewrite([(start, end, "")], code)

    def rewrite(self, changes: Iterable[tuple[int, int, str]], code: str) -> None:
        """Replaces slices of the current text, none of them empty, in order and without overlap, in one go.

        What a slice and its replacement have in common at either end stays untouched.
        """
        texts, origins, position = [], [], 0
        for first, last, new in changes:
            start, end, replacement = _trimmed(self.text, first, last, new)
            if start == end:
                assert not replacement, "a replacement that only adds has no place of its own"
                continue
            self._mark(start, end, code)
            self.only_deleted &= not replacement
            texts += [self.text[position:start], replacement]
            origins += [*self.origins[position:start], *[self.origins[start]] * len(replacement)]
            position = end
        if position:
            self.text = "".join([*texts, self.text[position:]])
            self.origins = [*origins, *self.origins[position:]]

    def substitute(self, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str], code: str) -> None:
        """Replaces every match of a pattern; one that is replaced by itself stays untouched."""
        self.rewrite(((*match.span(), replace(match)) for match in pattern.finditer(self.text)), code)

    def edits(self) -> list[Edit]:
        """The edits that make `text` of `original`: one a run of characters changed for the same reason."""
        inserted: dict[int, list[str]] = {}
        for offset, character in () if self.only_deleted else zip(self.origins, self.text, strict=True):
            if offset in self.reasons:
                inserted.setdefault(offset, []).append(character)
        made: list[Edit] = []
        for offset in sorted(self.reasons):
            code, new = self.reasons[offset], "".join(inserted.get(offset, ()))
            if made and made[-1][1] == offset and made[-1][3] == code:
                made[-1] = (made[-1][0], offset + 1, made[-1][2] + new, code)
            else:
                made.append((offset, offset + 1, new, code))
        return made

    def _mark(self, start: int, end: int, code: str) -> None:
        """The originals of a slice of the current text are changed; the first reason stays."""
        for offset in self.origins[start:end]:
            self.reasons.setdefault(offset, code)


def _trimmed(text: str, start: int, end: int, new: str) -> tuple[int, int, str]:
    """A change without what its slice and replacement share at their ends, but never a mere insertion."""
    old, shared = text[start:end], 0
    limit = min(len(old) - (len(new) > len(old)), len(new))
    while shared < limit and old[shared] == new[shared]:
        shared += 1
    tail = 0
    while tail < limit - shared and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return start + shared, end - tail, new[shared : len(new) - tail]
