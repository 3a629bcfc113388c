"""The order of rows: one global order that depends on the seed only, from which each rank takes its stride.

The order of segments is shuffled once an epoch, rows within a segment too; one segment is in memory at a time. The
position is one cursor over rows, so a run goes on exactly where it was, on another number of ranks too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from trainer.detours import NO_DETOURS, Detours, Samples, places_in_order
from trainer.records import TrainingError
from trainer.vectors import PackedRow, Vectors, read_rows

Address = tuple[str, int]
"""A packed row: its segment and its place there."""


@dataclass(frozen=True)
class Batch:
    """One optimiser step's rows of one rank, as micro-batches, and facts of the whole step."""

    micro_batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    """(ids, positions, labels), each of shape (rows, tokens), the same number on every rank."""
    tokens: int
    """Of all ranks."""
    target_tokens: int
    """Of all ranks."""
    epoch: float
    segment: str
    """Where the step's first row lies."""
    addresses: list[list[Address]]
    """Of this rank's rows, by micro-batch."""


@dataclass(frozen=True)
class _Placed:
    row: PackedRow
    epoch: float
    segment: str
    place: int


def batches(
    vectors: Vectors,
    *,
    rows_of_steps: Iterable[int],
    micro_rows: int,
    capacity: int,
    seed: int,
    start: int,
    rank: int,
    world: int,
    detours: Detours = NO_DETOURS,
) -> Iterator[Batch]:
    """Batches of the given steps from row cursor `start` on; each step may have another number of rows.

    Raises:
        TrainingError: the detours leave nothing.
    """
    rows = _rows(vectors, seed, start, detours)
    for num_rows in rows_of_steps:
        step = list(islice(rows, num_rows))
        yield _batch(step, micro_rows=micro_rows, capacity=capacity, rank=rank, world=world)


def validation_batches(vectors: Vectors, *, micro_rows: int, capacity: int, rank: int, world: int) -> Iterator[Batch]:
    """Every held-out row once, split evenly; ranks get the same number of micro-batches."""
    rows = [
        _Placed(row, 0, segment.path, place)
        for segment in vectors.validation
        for place, row in enumerate(read_rows(vectors, segment))
    ]
    size = micro_rows * world
    for start in range(0, len(rows), size):
        yield _batch(rows[start : start + size], micro_rows=micro_rows, capacity=capacity, rank=rank, world=world)


def _rows(vectors: Vectors, seed: int, start: int, detours: Detours) -> Iterator[_Placed]:
    """The global order of rows, epoch after epoch, from a cursor on; segments before it are not read."""
    epoch = cursor = 0
    if not detours.all:
        epoch = start // vectors.num_rows
        cursor = epoch * vectors.num_rows
    while True:
        before, done = cursor, 0
        for index in np.random.default_rng((seed, epoch)).permutation(len(vectors.train)):
            segment = vectors.train[index]
            order = np.random.default_rng((seed, epoch, int(index))).permutation(segment.rows).tolist()
            taken = places_in_order(order, segment.path, cursor, detours)
            skip = max(0, start - cursor)
            if skip < len(taken):
                rows = list(read_rows(vectors, segment))
                for number, (nth, place) in enumerate(taken[skip:], cursor + skip):
                    row = _without(rows[place], detours.samples_out(segment.path, place, number))
                    yield _Placed(row, epoch + (done + nth + 1) / vectors.num_rows, segment.path, place)
            cursor += len(taken)
            done += segment.rows
        if cursor == before:
            raise TrainingError("no row is left to learn from: all of them are left out")
        epoch += 1


def _without(row: PackedRow, out: Samples) -> PackedRow:
    """The row's other samples."""
    if not out:
        return row
    ends = np.cumsum(row.lengths)
    kept = [index for index in range(len(ends)) if index not in out]
    parts = [slice(ends[index] - row.lengths[index], ends[index]) for index in kept]
    is_target = np.concatenate([row.is_target[part] for part in parts])
    ids = np.concatenate([row.ids[part] for part in parts])
    return PackedRow(ids, is_target, row.lengths[kept], int(is_target.sum()))


def _batch(step: list[_Placed], *, micro_rows: int, capacity: int, rank: int, world: int) -> Batch:
    mine = step[rank::world]
    most = -(-len(step) // world)
    parts = [(mine[start : start + micro_rows], min(micro_rows, most - start)) for start in range(0, most, micro_rows)]
    micro_batches = [tensors_of([placed.row for placed in part], height, capacity) for part, height in parts]
    return Batch(
        micro_batches,
        tokens=sum(len(placed.row.ids) for placed in step),
        target_tokens=sum(placed.row.num_targets for placed in step),
        epoch=step[-1].epoch,
        segment=step[0].segment,
        addresses=[[(placed.segment, placed.place) for placed in part] for part, _ in parts],
    )


def tensors_of(rows: list[PackedRow], height: int, capacity: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, position ids and labels, padded to (height, capacity); a label is the next token where that is learned."""
    ids = np.zeros((height, capacity), np.int64)
    positions = np.tile(np.arange(capacity), (height, 1))
    labels = np.full((height, capacity), -100, np.int64)
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = row.ids
        starts = np.concatenate([[0], np.cumsum(row.lengths)])
        positions[index] -= np.repeat(starts, np.diff(np.append(starts, capacity)))
        learned = np.flatnonzero(row.is_target)
        labels[index, learned - 1] = row.ids[learned]
    return torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(labels)
