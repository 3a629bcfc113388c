"""Texts as an automaton for words sees them: folded, without what is skipped and repeated, each symbol with its place.

Many texts are read at once, in arrays, with a line break between two of them that is never skipped.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.folding import Folding, numbers
from curation.text_blocks import Block

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]


class Kind:
    """Which code points are of a kind; each is asked about once."""

    def __init__(self, holds: Callable[[str], bool]) -> None:
        self._holds = holds
        self._known = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
        """0 for those not asked about yet, 1 for no, 2 for yes."""

    def holds(self, codes: Codes) -> npt.NDArray[np.bool_]:
        """Of which code points it is true."""
        known = self._known[codes]
        if not known.all():
            for code in np.unique(codes[known == 0]).tolist():
                self._known[code] = 1 + self._holds(chr(code))
            known = self._known[codes]
        found: npt.NDArray[np.bool_] = known == 2
        return found


SPACE = Kind(str.isspace)


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
            white = np.concatenate([[0], np.cumsum(passed & SPACE.holds(codes))])[kept]
            apart = np.diff(white, prepend=0) > 0
            codes, places, breaks = codes[kept], places[kept], np.searchsorted(kept, breaks)
        if not self.ignore_repeat:
            texts = np.concatenate([[0], breaks + 1, [len(codes) + 1]])
            is_each = len(places) == len(block.text)
            ends = numbers(len(places) + 1)[1:] if is_each else places + 1
            return Symbols(codes, places, ends, None, apart, texts)
        broken = np.zeros(len(codes), dtype=bool)
        broken[breaks] = True
        first = np.ones(len(codes), dtype=bool)
        first[1:] = (codes[1:] != codes[:-1]) | broken[1:] | broken[:-1]
        begins = np.flatnonzero(first)
        last = np.append(begins, len(codes))[1:] - 1
        texts = np.concatenate([[0], np.searchsorted(begins, breaks) + 1, [len(begins) + 1]])
        apart = None if apart is None else apart[begins]
        return Symbols(codes[begins], places[begins], places[last] + 1, last - begins + 1, apart, texts)


def decoded(codes: Codes) -> str:
    """Code points as a string."""
    return str(codes.tobytes(), "utf-32-le")
