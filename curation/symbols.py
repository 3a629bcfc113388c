"""Texts as an automaton for words sees them: folded, without what is skipped and repeated, each symbol with its place.

Many texts are read at once, in arrays, with a line break between two of them that is never skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.folding import Folding
from curation.text_blocks import Block

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
MANY = 50
"""Where one symbol in so many seems to begin a word, most texts are searched anyway, and pairs are not compared."""
SMALLEST_MAP, LARGEST_MAP = 1 << 16, 1 << 22
MAP_PER_PAIR = 64
"""One in 64 pairs is taken for a known one by chance, and then compared; a larger map would leave the cache."""


@dataclass(frozen=True)
class Symbols:
    """What is left of a block of texts, symbol by symbol."""

    codes: Codes
    starts: Places
    """The first code point of the block that each symbol stands for."""
    ends: Places
    """One past the last."""
    runs: Places | None
    """How often each was repeated; None where repeats are symbols of their own."""
    apart: npt.NDArray[np.bool_] | None
    """Whether white space was skipped before it; None where nothing is."""
    texts: Places
    """Where each text begins, and where another would: symbols; before each but the first is a line break."""

    def only(self, texts: npt.NDArray[np.int64]) -> Places:
        """Which symbols are of some of the texts, and of the breaks behind them."""
        wanted = np.zeros(len(self.texts) - 1, dtype=bool)
        wanted[texts] = True
        return np.flatnonzero(np.repeat(wanted, np.diff(self.texts))[: len(self.codes)])


@dataclass(frozen=True)
class Reader:
    """Reads texts as symbols."""

    folding: Folding
    skip: Codes
    """Symbols that are passed over."""
    ignore_repeat: bool

    @classmethod
    def of(cls, folding: Folding, skip: str, *, ignore_repeat: bool) -> "Reader":
        """A reader that passes over some characters, in all their spellings."""
        folded = "".join(folding.fold(character) for character in skip)
        return cls(folding, np.array(sorted({ord(c) for c in skip + folded}), dtype=np.uint32), ignore_repeat)

    def read(self, block: Block) -> Symbols:
        """The symbols of a block."""
        codes, places = self.folding.symbols(block.points)
        breaks = np.searchsorted(places, block.begins[1:] - 1)
        apart = None
        if len(self.skip):
            passed = np.isin(codes, self.skip)
            passed[breaks] = False
            kept = np.flatnonzero(~passed)
            white = np.concatenate([[0], np.cumsum(passed & _is_space(codes))])[kept]
            apart = np.diff(white, prepend=0) > 0
            codes, places, breaks = codes[kept], places[kept], np.searchsorted(kept, breaks)
        if not self.ignore_repeat:
            texts = np.concatenate([[0], breaks + 1, [len(codes) + 1]])
            return Symbols(codes, places, places + 1, None, apart, texts)
        broken = np.zeros(len(codes), dtype=bool)
        broken[breaks] = True
        first = np.ones(len(codes), dtype=bool)
        first[1:] = (codes[1:] != codes[:-1]) | broken[1:] | broken[:-1]
        begins = np.flatnonzero(first)
        last = np.append(begins, len(codes))[1:] - 1
        texts = np.concatenate([[0], np.searchsorted(begins, breaks) + 1, [len(begins) + 1]])
        apart = None if apart is None else apart[begins]
        return Symbols(codes[begins], places[begins], places[last] + 1, last - begins + 1, apart, texts)


class Beginnings:
    """How words begin: tells texts that may hold one from those that cannot, at a fraction of an automaton's time."""

    def __init__(self, words: Sequence[str]) -> None:
        pairs = {(ord(word[0]) << 32) + ord(word[1]) for word in words if len(word) > 1}
        self._pairs = np.array(sorted(pairs), dtype=np.uint64)
        self._single = np.array(sorted({ord(word) for word in words if len(word) == 1}), dtype=np.uint32)
        size = min(LARGEST_MAP, max(SMALLEST_MAP, 1 << (MAP_PER_PAIR * len(pairs)).bit_length()))
        self._shift = np.uint32(32 - (size.bit_length() - 1))
        self._map = np.zeros(size, dtype=bool)
        self._map[self._hash((self._pairs >> np.uint64(32)).astype(np.uint32), self._pairs.astype(np.uint32))] = True

    def places(self, codes: Codes) -> Places:
        """Where words may begin; where words are many, every place that the map knows."""
        found = np.flatnonzero(self._map[self._hash(codes[:-1], codes[1:])])
        if len(found) * MANY < len(codes):
            found = found[self._known((codes[found].astype(np.uint64) << np.uint64(32)) + codes[found + 1])]
        if not len(self._single):
            return found
        return np.sort(np.concatenate([found, np.flatnonzero(np.isin(codes, self._single))]))

    def _known(self, pairs: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        if not len(self._pairs):
            return np.zeros(len(pairs), dtype=bool)
        nearest = np.searchsorted(self._pairs, pairs).clip(max=len(self._pairs) - 1)
        known: npt.NDArray[np.bool_] = self._pairs[nearest] == pairs
        return known

    def _hash(self, first: Codes, second: Codes) -> Codes:
        return (first * np.uint32(0x9E3779B1) + second * np.uint32(0x85EBCA6B)) >> self._shift


def decoded(codes: Codes) -> str:
    """Code points as a string."""
    return str(codes.tobytes(), "utf-32-le")


def _is_space(codes: Codes) -> npt.NDArray[np.bool_]:
    known, of = np.unique(codes, return_inverse=True)
    return np.array([chr(code).isspace() for code in known.tolist()], dtype=bool)[of]
