"""Texts joined into blocks, so that many are looked at in one native call, and places in a block told by text."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

BLOCK_CHARS = 1 << 18
"""A block and what is computed of it stay in the processor's cache."""


@dataclass(frozen=True)
class Block:
    """Some texts in a row, with line breaks between."""

    text: str
    first: int
    """Index of the first text."""
    begins: npt.NDArray[np.int64]
    """Where each text begins: code points."""

    @property
    def points(self) -> npt.NDArray[np.uint32]:
        """The text as code points."""
        return np.frombuffer(self.text.encode("utf-32-le"), dtype=np.uint32)

    def texts_at(self, places: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Indexes of the texts that hold some places of the block; each once, in order."""
        return np.unique(np.searchsorted(self.begins, places, side="right") - 1) + self.first


def in_blocks(texts: pl.Series) -> Iterator[Block]:
    """Blocks of at least one text and of about BLOCK_CHARS."""
    if texts.is_empty():
        return
    ends = (texts.str.len_chars().cast(pl.Int64) + 1).cum_sum().to_numpy()
    cuts = np.flatnonzero(np.diff(ends // BLOCK_CHARS)) + 1
    for first, end in pairwise([0, *cuts.tolist(), len(texts)]):
        begins = np.concatenate([[0], ends[first : end - 1] - (ends[first - 1] if first else 0)])
        yield Block(texts[first:end].str.join("\n")[0], first, begins)
