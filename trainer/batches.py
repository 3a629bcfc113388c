"""The order of rows: one global order that depends on the seed only, from which each rank takes its stride.

The order of segments is shuffled once an epoch, rows within a segment too; one segment is in memory at a time. The
position is one cursor over rows, so a run goes on exactly where it was, on another number of ranks too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from trainer.vectors import PackedRow, Segment, Vectors, read_rows


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


@dataclass(frozen=True)
class _Placed:
    row: PackedRow
    epoch: float
    segment: str


def batches(
    vectors: Vectors,
    *,
    rows_per_step: int,
    micro_rows: int,
    capacity: int,
    seed: int,
    start: int,
    rank: int,
    world: int,
) -> Iterator[Batch]:
    """Steps' batches from row cursor `start` on, without end."""
    rows = _rows(vectors, seed, start)
    while True:
        step = [next(rows) for _ in range(rows_per_step)]
        yield _batch(step, micro_rows=micro_rows, capacity=capacity, rank=rank, world=world)


def validation_batches(vectors: Vectors, *, micro_rows: int, capacity: int, rank: int, world: int) -> Iterator[Batch]:
    """Every held-out row once, split evenly; ranks get the same number of micro-batches."""
    rows = [_Placed(row, 0, segment.path) for segment in vectors.validation for row in read_rows(vectors, segment)]
    size = micro_rows * world
    for start in range(0, len(rows), size):
        yield _batch(rows[start : start + size], micro_rows=micro_rows, capacity=capacity, rank=rank, world=world)


def _rows(vectors: Vectors, seed: int, start: int) -> Iterator[_Placed]:
    """The global order of rows, epoch after epoch, from a cursor on; segments before it are not read."""
    per_epoch = vectors.num_rows
    epoch, skip = divmod(start, per_epoch)
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(len(vectors.train))
        done = 0
        for index in order:
            segment = vectors.train[index]
            if skip >= segment.rows:
                skip -= segment.rows
                done += segment.rows
                continue
            rows = _shuffled(vectors, segment, (seed, epoch, int(index)))[skip:]
            done += skip
            skip = 0
            for row in rows:
                done += 1
                yield _Placed(row, epoch + done / per_epoch, segment.path)
        epoch += 1


def _shuffled(vectors: Vectors, segment: Segment, seed: tuple[int, ...]) -> list[PackedRow]:
    rows = list(read_rows(vectors, segment))
    return [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))]


def _batch(step: list[_Placed], *, micro_rows: int, capacity: int, rank: int, world: int) -> Batch:
    mine = [placed.row for placed in step[rank::world]]
    most = -(-len(step) // world)
    micro_batches = [
        _tensors(mine[start : start + micro_rows], min(micro_rows, most - start), capacity)
        for start in range(0, most, micro_rows)
    ]
    return Batch(
        micro_batches,
        tokens=sum(len(placed.row.ids) for placed in step),
        target_tokens=sum(placed.row.num_targets for placed in step),
        epoch=step[-1].epoch,
        segment=step[0].segment,
    )


def _tensors(rows: list[PackedRow], height: int, capacity: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
