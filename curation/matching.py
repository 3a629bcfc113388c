"""Find words in all their spellings, by one automaton over folded text, and numbers, addresses and links by their form.

Many texts are searched at once, in blocks: read as symbols, looked through for places where a word may begin; only the
texts that have one are searched by the automaton. Hits stay arrays until they are told.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from curation.folding import Folding
from curation.forms import Form, Forms
from curation.operator import Lexicon, OperatorConfig
from curation.symbols import Kind, Places, Reader, Symbols, decoded
from curation.text_blocks import Block, in_blocks
from curation.word_trie import Trie

FOUND = pl.Schema({"text": pl.Int64, "start": pl.Int64, "end": pl.Int64, "word": pl.String, "category": pl.String})
NOTHING = np.uint32(ord("\n"))
"""What stands beside the first and the last symbol of a text."""


class MatchOptions(OperatorConfig):
    """Which spellings of a word count as the word, and what else is found by its form."""

    ignore_case: bool = True
    """FUCK is fuck."""
    ignore_width: bool = True
    """Full-width letters, digits and signs are their half-width forms."""
    ignore_repeat: bool = False
    """ffuuck is fuck; a letter that the word itself has twice must be there twice."""
    ignore_traditional: bool = True
    """五星紅旗 is 五星红旗."""
    ignore_digit_style: bool = True
    """三, ③, ３ and 3 are one."""
    ignore_letter_style: bool = True
    """Ⓕ, ⒡ and f are one, and ﬁ is fi."""
    skip: str = Field(default="", max_length=1_000)
    """Characters passed over inside a word, of the list as of the text."""
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
    detect: tuple[Form, ...] = ()
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
class _Hits:
    """Hits in a block: code points of the block, and which pattern each is, or from their number on which form."""

    starts: Places
    ends: Places
    of: Places

    def __getitem__(self, wanted: Places | npt.NDArray[np.bool_]) -> "_Hits":
        return _Hits(self.starts[wanted], self.ends[wanted], self.of[wanted])


class Matcher:
    """The automaton of a set of words under matching options."""

    def __init__(self, lexicons: Sequence[Lexicon], options: MatchOptions) -> None:
        self._options = options
        folding = Folding(options)
        self._reader = Reader.of(folding, options.skip, ignore_repeat=options.ignore_repeat)
        width, length = options.ignore_width, options.number_length
        self._forms = Forms(options.detect, folding, ignore_width=width, number_length=length)
        allowed = {key for _, key in self._keys(chain.from_iterable(lexicon.allow for lexicon in lexicons))}
        listed: dict[tuple[str, tuple[int, ...]], tuple[str, str | None]] = {}
        for lexicon in lexicons:
            for word, key in self._keys(lexicon.words):
                listed.setdefault(key, (word, lexicon.category))
        self._runs = [runs for _, runs in [*listed, *sorted(allowed)]]
        self._repeating = np.array([any(run > 1 for run in runs) for runs in self._runs], dtype=bool)
        self._in_pieces = self._repeating.any() or any("\n" in text for text, _ in [*listed, *allowed])
        self._num_words = len(listed)
        names = [*listed.values(), *((None, kind) for kind in self._forms.kinds)]
        self._names = pl.DataFrame(names, {"word": pl.String, "category": pl.String}, orient="row")
        """By word, then by form; the word of a form is the text itself."""
        self._listed, self._allowed = (Trie([text for text, _ in keys]) for keys in (listed, sorted(allowed)))

    def find(self, text: str) -> list[Match]:
        """The matches in a text, by place; none of them overlap unless the options ask for all."""
        found = self.find_all(pl.Series([text], dtype=pl.String))
        return [Match(*row) for row in found.select("word", "start", "end", "category").iter_rows()]

    def find_all(self, texts: pl.Series) -> pl.DataFrame:
        """The matches in many texts, in order: FOUND, `text` the index, `start` and `end` in code points."""
        parts = [self._told(block, self._chosen(self._hits(block))) for block in in_blocks(texts)]
        return pl.concat(parts) if parts else pl.DataFrame(schema=FOUND)

    def _keys(self, words: Iterable[str]) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
        """Words, and how the automaton looks for each: its symbols, and how often each stands in a row."""
        given = [word.strip() for word in words]
        for block in in_blocks(pl.Series(given, dtype=pl.String)):
            symbols = self._reader.read(block)
            text, runs, places = decoded(symbols.codes), symbols.runs, symbols.texts.tolist()
            for word, (begin, after) in zip(given[block.first :], pairwise(places), strict=False):
                if after - 1 > begin:
                    repeats = () if runs is None else tuple(runs[begin : after - 1].tolist())
                    yield word, (text[begin : after - 1], repeats)

    def _hits(self, block: Block) -> _Hits:
        """What is listed in a block and stands alone where it must, and what has a form; but for what is allowed."""
        forms = np.array(list(self._forms.find(block)), dtype=np.int64).reshape(-1, 3)
        found, allowed = self._searched(block, forms[:, 0])
        if len(forms):
            found = _Hits(
                np.append(found.starts, forms[:, 0]),
                np.append(found.ends, forms[:, 1]),
                np.append(found.of, forms[:, 2] + self._num_words),
            )
        if not len(allowed.starts):
            return found
        allowed = allowed[np.argsort(allowed.starts, kind="stable")]
        reach = np.append(0, np.maximum.accumulate(allowed.ends))
        return found[reach[np.searchsorted(allowed.starts, found.starts, side="right")] < found.ends]

    def _searched(self, block: Block, forms: Places) -> tuple[_Hits, _Hits]:
        """The listed words of a block, and the allowed phrases of the texts with one or with a form; as it comes."""
        symbols = self._reader.read(block)
        of, starts, ends = self._listed.find(symbols.codes)
        of, first, last = self._whole(symbols, of, starts, ends - 1)
        alone = ~self._joined(symbols, first, last)
        found = _Hits(symbols.starts[first[alone]], symbols.ends[last[alone]], of[alone])
        texts = np.searchsorted(block.begins, np.append(found.starts, forms), side="right") - 1
        where = symbols.only(texts)
        of, starts, ends = self._allowed.find(symbols.codes[where])
        of, first, last = self._whole(symbols, of + self._num_words, where[starts], where[ends - 1])
        return found, _Hits(symbols.starts[first], symbols.ends[last], of)

    def _whole(self, symbols: Symbols, of: Places, first: Places, last: Places) -> tuple[Places, Places, Places]:
        """Of hits of patterns, those within one text that have each symbol as often in a row as the pattern."""
        if not self._in_pieces:
            return of, first, last
        whole = np.searchsorted(symbols.texts, first, side="right") == np.searchsorted(
            symbols.texts, last, side="right"
        )
        for hit in np.flatnonzero(whole & self._repeating[of]).tolist():
            assert symbols.runs is not None
            wanted = self._runs[of[hit]]
            whole[hit] = (symbols.runs[first[hit] : first[hit] + len(wanted)] >= wanted).all()
        return of[whole], first[whole], last[whole]

    def _joined(self, symbols: Symbols, first: Places, last: Places) -> npt.NDArray[np.bool_]:
        """Whether Latin words, and numbers where asked for, are part of longer ones."""
        joined = np.zeros(len(first), dtype=bool)
        codes = np.append(symbols.codes, NOTHING)  # before the first is the last
        before, after = codes[first - 1], codes[last + 1]
        if symbols.apart is not None:
            apart = np.append(symbols.apart, True)
            before, after = np.where(apart[first], NOTHING, before), np.where(apart[last + 1], NOTHING, after)
        for inside, outside in ((codes[first], before), (codes[last], after)):
            if self._options.word_boundary:
                joined |= LATIN.holds(inside) & IN_LATIN_WORD.holds(outside)
            if self._options.number_boundary:
                joined |= DECIMAL.holds(inside) & DECIMAL.holds(outside)
        return joined

    def _chosen(self, hits: _Hits) -> _Hits:
        """The hits by place; without overlap unless asked for: the leftmost, of those the longest or shortest."""
        options = self._options
        by_end = -hits.ends if options.longest and not options.overlapping else hits.ends
        hits = hits[np.lexsort((hits.of, by_end, hits.starts))]
        if options.overlapping:
            return hits
        kept = np.ones(len(hits.starts), dtype=bool)
        kept[1:] = hits.starts[1:] >= np.maximum.accumulate(hits.ends)[:-1]
        last = 0
        for index in np.flatnonzero(~kept).tolist():
            last = index - 1 if kept[index - 1] else last
            kept[index] = hits.starts[index] >= hits.ends[last]
        return hits[kept]

    def _told(self, block: Block, hits: _Hits) -> pl.DataFrame:
        texts = np.searchsorted(block.begins, hits.starts, side="right") - 1
        named = self._names[hits.of]
        if self._forms.kinds:
            given = zip(named["word"].to_list(), hits.starts.tolist(), hits.ends.tolist(), strict=True)
            words = [block.text[start:end] if word is None else word for word, start, end in given]
            named = named.with_columns(word=pl.Series(words, dtype=pl.String))
        begins = block.begins[texts]
        places = pl.DataFrame({"text": texts + block.first, "start": hits.starts - begins, "end": hits.ends - begins})
        return places.hstack(named)


def mask_matches(text: str, matches: Iterable[Match], mask: str) -> str:
    """The text with every character of a match hidden."""
    characters = list(text)
    for match in matches:
        characters[match.start : match.end] = mask * (match.end - match.start)
    return "".join(characters)


def _is_latin(character: str) -> bool:
    return character.isalpha() and unicodedata.name(character, "").startswith(("LATIN ", "FULLWIDTH LATIN "))


LATIN, DECIMAL = Kind(_is_latin), Kind(str.isdecimal)
IN_LATIN_WORD = Kind(lambda character: _is_latin(character) or unicodedata.combining(character) > 0)
"""An accent of its own belongs to the letter before it."""
