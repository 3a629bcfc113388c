"""The n-grams of texts: which there are, and sums of what a model knows of them.

A text is folded (width, case) and cut into tokens: each character of a script without spaces is one, each word of
others; n-grams of tokens are thus character n-grams in Chinese, and no segmenter is needed. Words also have the n-grams
of letters inside them, edges included, so a misspelt one is known by its parts. Each n-gram counts once a text.
"""

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from curation import ngram_kernels as kernels
from curation.folding import CharacterMap
from curation.ngram_kernels import Floats, Hashes, Kinds, Places, Points, Rows
from curation.symbols import Kind
from curation.text_blocks import in_blocks

SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
TOKEN = rf"[^\W_{SPACELESS}]+|\S"
LONG_NUMBER = rf"\d{{{kernels.LONG_DIGITS},}}"
"""Which number it is says nothing: all are 0000."""


def fold(texts: Sequence[str] | pl.Series) -> pl.Series:
    """Texts in one width and case."""
    given = texts if isinstance(texts, pl.Series) else pl.Series(texts, dtype=pl.String)
    return given.str.normalize("NFKC").str.to_lowercase()


def prepare(texts: Sequence[str] | pl.Series) -> pl.Series:
    """Texts as their tokens, joined by spaces: what tells one text from another."""
    return fold(texts).str.replace_all(LONG_NUMBER, "0000").str.extract_all(TOKEN).list.join(" ")


@dataclass(frozen=True)
class Reading:
    """Which n-grams are read."""

    tokens: int
    """Longest n-gram of tokens."""
    letters: int
    """Longest n-gram of letters inside a word, its edges included; none below 3."""

    def hashes(self, texts: pl.Series) -> Iterator[tuple[Hashes, Places]]:
        """The n-grams of texts, each once a text, in blocks: hashes, and the index of the text that each is from."""
        for points, kinds, begins, first in _blocks(texts):
            found, owners = kernels.all_hashes(points, kinds, begins, self.tokens, self.letters)
            order = np.lexsort((found, owners))
            found, owners = found[order], owners[order]
            once = np.ones(len(found), dtype=bool)
            once[1:] = (found[1:] != found[:-1]) | (owners[1:] != owners[:-1])
            yield found[once], owners[once] + first


class NgramTable:
    """Known n-grams, found by their hash."""

    def __init__(self, hashes: Hashes, reading: Reading) -> None:
        bits = max(4, (2 * len(hashes)).bit_length())
        keys, rows, shift = np.zeros(1 << bits, dtype=np.uint64), np.zeros(1 << bits, dtype=np.int32), 64 - bits
        kernels.insert(hashes, keys, rows, np.uint64(shift))
        self._table = (reading.tokens, reading.letters, keys, rows, np.uint64(shift))

    def rows(self, texts: pl.Series) -> Iterator[tuple[Rows, Places]]:
        """The known n-grams of texts, each once a text, in blocks: rows, and the index of each one's text."""
        stamps = np.zeros_like(self._table[3])
        for points, kinds, begins, first in _blocks(texts):
            found, owners = kernels.known_rows(points, kinds, begins, *self._table, stamps, first)
            yield found, owners + first

    def sums(self, texts: pl.Series, values: Floats) -> Floats:
        """Sums of the rows of `values` over the known n-grams of each text; one row a text."""
        sums = np.zeros((len(texts), values.shape[1]), dtype=np.float32)
        stamps = np.zeros_like(self._table[3])
        for points, kinds, begins, first in _blocks(texts):
            kernels.add_sums(points, kinds, begins, *self._table, stamps, first, values, sums[first:])
        return sums


def _blocks(texts: pl.Series) -> Iterator[tuple[Points, Kinds, Places, int]]:
    """Folded texts in blocks: code points, their kinds, where texts begin (and one more would), the first's index."""
    for block in in_blocks(texts):
        if JOINED.holds(block.points).any():
            folded = list(in_blocks(fold(texts[block.first : block.first + len(block.begins)])))
            parts = [(part.points, part.begins, part.first) for part in folded]
        else:
            points, of = FOLDED.symbols(block.points)
            parts = [(points, np.searchsorted(of, block.begins), 0)]
        for points, begins, first in parts:
            yield points, _kinds(points), np.append(begins, len(points) + 1), block.first + first


def _is_joined(character: str) -> bool:
    """Whether what a character is folded to depends on those beside it, or may do so in a newer Unicode.

    Marks and parts of Korean syllables become one with what is before them; Σ is another letter at a word's end.
    """
    folded = unicodedata.normalize("NFKC", character)
    return any(unicodedata.category(c) in JOINING or c == "Σ" or "\u1100" <= c <= "\u11ff" for c in folded)


JOINING = ("Mn", "Mc", "Me", "Cn")
JOINED = Kind(_is_joined)
FOLDED = CharacterMap(lambda character: unicodedata.normalize("NFKC", character).lower())
"""What `fold` makes of each of the other characters."""


_KINDS = np.zeros(sys.maxunicode + 1, dtype=np.uint8)


def _kinds(points: Points) -> Kinds:
    """The kind of each code point, as the engine of regular expressions tells it; asked once for each."""
    kinds = _KINDS[points]
    if len(new := np.unique(points[kinds == kernels.UNKNOWN])):
        characters = pl.Series([chr(code) for code in new.tolist()])
        found = np.full(len(new), kernels.SINGLE, dtype=np.uint8)
        for kind, form in (
            (kernels.SPACE, r"^\s$"),
            (kernels.LETTER, rf"^[^\W_{SPACELESS}]$"),
            (kernels.DIGIT, rf"^[\d&&[^{SPACELESS}]]$"),
        ):
            found[characters.str.contains(form).to_numpy()] = kind
        _KINDS[new] = found
        kinds = _KINDS[points]
    return kinds
