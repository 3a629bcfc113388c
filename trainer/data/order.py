"""The order of rows: one for all ranks, which follows from the seed and from what is left out, and from nothing else.

A source's segments are shuffled once a pass, and the rows inside each. The main version's pass is the epoch; of a
version mixed in an epoch takes as many rows as its weight says, and the next epoch goes on behind them. Sources take
turns evenly, so that every step has its share of each.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from trainer.data.vectors import Segment, Vectors
from trainer.records import TrainingError
from trainer.recovery.detours import Detours


class Place(NamedTuple):
    """A packed row when its turn comes."""

    segment: Segment
    place: int
    """In its segment."""
    cursor: int
    """How many rows were taken before."""
    epoch: float
    """How many epochs are done with it."""


def rows_in_order(vectors: Vectors, seed: int, start: int, detours: Detours) -> Iterator[Place]:
    """The rows, epoch after epoch, from a row cursor on.

    Raises:
        TrainingError: the detours leave nothing.
    """
    turns = _turns(vectors.rows_an_epoch)
    epoch = cursor = 0
    if not detours.all:
        epoch = start // len(turns)
        cursor = epoch * len(turns)
    while True:
        before = cursor
        streams = [
            _source_in_order(vectors, source, seed, epoch * count) for source, count in enumerate(vectors.rows_an_epoch)
        ]
        for turn, source in enumerate(turns.tolist(), 1):
            segment, place = next(streams[source])
            if detours.leaves_out(segment.path, place, cursor):
                continue
            if cursor >= start:
                yield Place(segment, place, cursor, epoch + turn / len(turns))
            cursor += 1
        if cursor == before:
            raise TrainingError("no row is left to learn from: all of them are left out")
        epoch += 1


def _turns(rows_an_epoch: tuple[int, ...]) -> np.ndarray:
    """Whose turn it is, by number of the source, over an epoch."""
    sources = np.repeat(np.arange(len(rows_an_epoch), dtype=np.int16), rows_an_epoch)
    due = np.concatenate([(np.arange(count) + 0.5) / max(1, count) for count in rows_an_epoch])
    turns: np.ndarray = sources[np.argsort(due, kind="stable")]
    return turns


def _source_in_order(vectors: Vectors, source: int, seed: int, start: int) -> Iterator[tuple[Segment, int]]:
    """A source's rows, pass after pass, from one on."""
    segments = [segment for segment in vectors.train if segment.source == source]
    num_rows = sum(segment.rows for segment in segments)
    number, skip = divmod(start, num_rows) if num_rows else (0, 0)
    while num_rows:
        for index in np.random.default_rng((seed, source, number)).permutation(len(segments)).tolist():
            segment = segments[index]
            if skip < segment.rows:
                order = np.random.default_rng((seed, source, number, 1 + index)).permutation(segment.rows)
                yield from ((segment, place) for place in order[skip:].tolist())
            skip = max(0, skip - segment.rows)
        number += 1
