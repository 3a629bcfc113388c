"""Find words in all their spellings, by one automaton over folded text; numbers, addresses and links by their form.

Folding maps each character to one that stands for all its spellings, so offsets stay those of the text. Where
characters are passed over (`skip`) or repeats ignored, each folded symbol remembers the slice it stands for.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import polars as pl
from ahocorasick_rs import AhoCorasick, MatchKind
from pydantic import Field

from curation.folding import Folding
from curation.operator import Lexicon, OperatorConfig
from curation.text_blocks import in_blocks

TOP_LEVEL = (
    "com|cn|net|org|edu|gov|info|biz|xyz|top|vip|shop|club|site|online|app|dev|io|co|cc|me|tv|ai|uk|de|jp|kr|hk|tw"
)
OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
DETECTED = {
    "url": re.compile(
        r"(?:(?<![a-z])(?:https?|ftp)://|(?<![\w.@-])www\.)[!-;=?-~]+(?<![.,;:!?)\]'])"
        rf"|(?<![\w.@-])(?:[a-z0-9-]{{1,63}}\.){{1,8}}(?:{TOP_LEVEL})(?![\w@-]|\.\w)(?:/[!-;=?-~]*(?<![.,;:!?)\]']))?",
        re.IGNORECASE | re.ASCII,
    ),
    "email": re.compile(
        r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?![\w-])", re.IGNORECASE | re.ASCII
    ),
    "ipv4": re.compile(rf"(?<![\d.])(?:{OCTET}\.){{3}}{OCTET}(?!\.?\d)", re.ASCII),
}  # fmt: skip


class MatchOptions(OperatorConfig):
    """Which spellings of a word count as the word, and what else is found by its form."""

    ignore_case: bool = True
    """FUCK is fuck."""
    ignore_width: bool = True
    """Full-width letters and digits are their half-width forms."""
    ignore_repeat: bool = False
    """ffuuck is fuck; a letter that the word itself has twice must be there twice."""
    ignore_traditional: bool = True
    """五星紅旗 is 五星红旗."""
    ignore_digit_style: bool = True
    """三, ③, ３ and 3 are one."""
    ignore_letter_style: bool = True
    """Ⓕ, ⒡ and f are one."""
    skip: str = Field(default="", max_length=1_000)
    """Characters passed over inside a word."""
    word_boundary: bool = True
    """Words of Latin letters match as whole words only: av does not match in have."""
    number_boundary: bool = False
    """Words of digits match as whole numbers only."""
    overlapping: bool = False
    """Report every match; overrides longest."""
    longest: bool = True
    """Of matches that begin at one place, take the longest; otherwise the shortest."""
    mask: str = Field(default="*", min_length=1, max_length=1)
    """Stands for each masked character."""
    detect: tuple[Literal["number", "url", "email", "ipv4"], ...] = ()
    """What is found by its form, beside words; its name is the match's category."""
    number_length: int = Field(default=8, ge=1, le=100)
    """Fewest digits of a detected number."""


@dataclass(frozen=True)
class Match:
    """A hit: code-point offsets into the text as given."""

    word: str
    start: int
    end: int
    category: str | None


@dataclass(frozen=True)
class _Folded:
    """A text as the automaton sees it, and the slice of the original that each of its symbols stands for."""

    plain: str
    """Folded character by character."""
    text: str
    """What the automaton searches: without what is skipped and repeated."""
    starts: Sequence[int]
    ends: Sequence[int]
    runs: Sequence[int]
    """How often each symbol was repeated."""


class Matcher:
    """The automaton of a set of words under matching options."""

    def __init__(self, lexicons: Sequence[Lexicon], options: MatchOptions) -> None:
        self._options = options
        self._fold = Folding(options)
        self._skip = {*options.skip, *options.skip.translate(self._fold)}
        self._number = re.compile(rf"\d{{{options.number_length},}}", re.ASCII)
        listed: dict[tuple[str, tuple[int, ...]], tuple[str, str | None]] = {}
        for lexicon in lexicons:
            for word in lexicon.words:
                if (key := self._key(word))[0]:
                    listed.setdefault(key, (word.strip(), lexicon.category))
        allowed = {self._key(word): None for lexicon in lexicons for word in lexicon.allow}
        keys = [*listed, *(key for key in allowed if key[0] and key not in listed)]
        self._patterns = [text for text, _ in keys]
        self._runs = [runs for _, runs in keys]
        self._words = list(listed.values())
        self._automaton = AhoCorasick(self._patterns, matchkind=MatchKind.Standard) if keys else None

    def suspects(self, texts: pl.Series) -> list[int]:
        """Indexes of the texts that may hold a match: one search over many texts costs less than one in each."""
        if self._options.detect:
            return list(range(len(texts)))
        if self._automaton is None:
            return []
        found: list[int] = []
        plain = not self._skip and not self._options.ignore_repeat
        for block in in_blocks(texts):
            if plain:
                hits = self._automaton.find_matches_as_indexes(self._fold.fold(block.points), overlapping=True)
                places = [start for _, start, _ in hits]
            else:
                folded = self._folded(block.text)
                hits = self._automaton.find_matches_as_indexes(folded.text, overlapping=True)
                places = [folded.starts[start] for _, start, _ in hits]
            found += block.texts_at(places).tolist()
        return found

    def find(self, text: str) -> list[Match]:
        """The matches in a text, by place; none of them overlap unless the options ask for all."""
        folded = self._folded(text)
        hits = list(self._hits(folded))
        allowed = [(start, end) for index, start, end in hits if index >= len(self._words)]
        found = [
            (start, end, *self._words[index])
            for index, start, end in hits
            if index < len(self._words) and self._stands_alone(folded.plain, start, end)
        ]
        found += self._detected(text, folded.plain)
        found = [hit for hit in found if not any(a <= hit[0] and hit[1] <= b for a, b in allowed)]
        if not self._options.overlapping:
            found = list(_leftmost(found, longest=self._options.longest))
        return [
            Match(word, start, end, category) for start, end, word, category in sorted(found, key=lambda hit: hit[:2])
        ]

    def _key(self, word: str) -> tuple[str, tuple[int, ...]]:
        """A listed word as the automaton looks for it, with how often each symbol stands in a row."""
        folded = self._folded(word.strip())
        return folded.text, tuple(folded.runs) if self._options.ignore_repeat else ()

    def _folded(self, text: str) -> _Folded:
        plain = text.translate(self._fold)
        if not self._skip and not self._options.ignore_repeat:
            places = range(len(text))
            return _Folded(plain, plain, places, range(1, len(text) + 1), ())
        kept = [(symbol, place) for place, symbol in enumerate(plain) if symbol not in self._skip]
        if not self._options.ignore_repeat:
            return _Folded(plain, "".join(s for s, _ in kept), [p for _, p in kept], [p + 1 for _, p in kept], ())
        groups = [(symbol, [place for _, place in group]) for symbol, group in groupby(kept, key=lambda item: item[0])]
        return _Folded(
            plain,
            "".join(symbol for symbol, _ in groups),
            [places[0] for _, places in groups],
            [places[-1] + 1 for _, places in groups],
            [len(places) for _, places in groups],
        )

    def _hits(self, folded: _Folded) -> Iterator[tuple[int, int, int]]:
        """(pattern, start, end) of everything that the automaton finds, offsets into the original."""
        if self._automaton is None:
            return
        for index, start, end in self._automaton.find_matches_as_indexes(folded.text, overlapping=True):
            wanted = self._runs[index]
            if all(folded.runs[start + place] >= least for place, least in enumerate(wanted)):
                yield index, folded.starts[start], folded.ends[end - 1]

    def _detected(self, text: str, plain: str) -> list[tuple[int, int, str, str | None]]:
        found: list[tuple[int, int, str, str | None]] = []
        for kind in dict.fromkeys(self._options.detect):
            place = self._number.finditer(plain) if kind == "number" else DETECTED[kind].finditer(text)
            found += [(*match.span(), text[match.start() : match.end()], kind) for match in place]
        return found

    def _stands_alone(self, text: str, start: int, end: int) -> bool:
        """Whether a Latin word, or a number where asked for, is not part of a longer one."""
        options = self._options
        if not options.word_boundary and not options.number_boundary:
            return True
        for inside, outside in (
            (text[start], self._beside(text, start, -1)),
            (text[end - 1], self._beside(text, end, 1)),
        ):
            if options.word_boundary and _is_latin(inside) and _is_latin(outside):
                return False
            if options.number_boundary and inside.isdecimal() and outside.isdecimal():
                return False
        return True

    def _beside(self, text: str, edge: int, step: int) -> str:
        """The character before or after an edge of a match, past those skipped; white space ends a word always."""
        place = edge - 1 if step < 0 else edge
        while 0 <= place < len(text) and text[place] in self._skip and not text[place].isspace():
            place += step
        return text[place] if 0 <= place < len(text) else " "


def mask_matches(text: str, matches: Iterable[Match], mask: str) -> str:
    """The text with every character of a match hidden."""
    characters = list(text)
    for match in matches:
        characters[match.start : match.end] = mask * (match.end - match.start)
    return "".join(characters)


def _leftmost(
    found: Iterable[tuple[int, int, str, str | None]], *, longest: bool
) -> Iterator[tuple[int, int, str, str | None]]:
    """Matches without overlap: the leftmost first, of those the longest or the shortest."""
    position = 0
    for hit in sorted(found, key=lambda hit: (hit[0], -hit[1] if longest else hit[1])):
        if hit[0] >= position:
            yield hit
            position = hit[1]


def _is_latin(character: str) -> bool:
    return character.isalpha() and character < "\u0250"
