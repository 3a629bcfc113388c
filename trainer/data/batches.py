"""Batches: of one global order of rows each rank takes its stride.

A segment of each source is mapped at a time. The position is one cursor over rows, so a run goes on exactly where it
was, on another number of ranks too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from trainer.data.order import Place, rows_in_order
from trainer.data.packing import pack
from trainer.data.vectors import OpenSegment, PackedRow, Vectors, read_rows
from trainer.recovery.detours import NO_DETOURS, Detours, Samples

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
    sources: list[list[int]]
    """Of these rows, the numbers of the sources in `Vectors.sources`."""


@dataclass(frozen=True)
class _Placed:
    row: PackedRow
    at: Place


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
        if vectors.packs_steps is not None:
            step = _repacked(step, capacity if vectors.packs_steps else None)
        yield _batch(step, micro_rows=micro_rows, capacity=capacity, rank=rank, world=world)


def validation_batches(vectors: Vectors, *, micro_rows: int, capacity: int, rank: int, world: int) -> Iterator[Batch]:
    """Every held-out row once, split evenly; ranks get the same number of micro-batches."""
    rows = (
        _Placed(row, Place(segment, place, 0, 0.0))
        for segment in vectors.validation
        for place, row in enumerate(read_rows(vectors, segment))
    )
    while step := list(islice(rows, micro_rows * world)):
        yield _batch(step, micro_rows=micro_rows, capacity=capacity, rank=rank, world=world)


def _rows(vectors: Vectors, seed: int, start: int, detours: Detours) -> Iterator[_Placed]:
    """The rows from a cursor on; segments before it are not read."""
    opened: dict[int, tuple[str, OpenSegment]] = {}
    for at in rows_in_order(vectors, seed, start, detours):
        path, rows = opened.get(at.segment.source, (None, None))
        if rows is None or path != at.segment.path:
            rows = OpenSegment(vectors, at.segment)
            opened[at.segment.source] = at.segment.path, rows
        yield _Placed(_without(rows[at.place], detours.samples_out(at.segment.path, at.place, at.cursor)), at)


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


def _repacked(step: list[_Placed], capacity: int | None) -> list[_Placed]:
    """The samples of a step's conversations in rows of their own; a row is addressed by its first conversation."""
    samples = [_Placed(sample, placed.at) for placed in step for sample in _samples_of(placed.row)]
    rows = pack([len(placed.row.ids) for placed in samples], capacity)
    return [
        _Placed(
            PackedRow(
                np.concatenate([samples[place].row.ids for place in row]),
                np.concatenate([samples[place].row.is_target for place in row]),
                np.concatenate([samples[place].row.lengths for place in row]),
                sum(samples[place].row.num_targets for place in row),
            ),
            samples[min(row)].at,
        )
        for row in rows
    ]


def _samples_of(row: PackedRow) -> Iterator[PackedRow]:
    ends = np.cumsum(row.lengths)
    for end, length in zip(ends, row.lengths, strict=True):
        is_target = row.is_target[end - length : end]
        yield PackedRow(row.ids[end - length : end], is_target, np.array([length]), int(is_target.sum()))


def _batch(step: list[_Placed], *, micro_rows: int, capacity: int, rank: int, world: int) -> Batch:
    mine = step[rank::world]
    most = -(-len(step) // world)
    parts = [(mine[start : start + micro_rows], min(micro_rows, most - start)) for start in range(0, most, micro_rows)]
    micro_batches = [tensors_of([placed.row for placed in part], height, capacity) for part, height in parts]
    return Batch(
        micro_batches,
        tokens=sum(len(placed.row.ids) for placed in step),
        target_tokens=sum(placed.row.num_targets for placed in step),
        epoch=max(placed.at.epoch for placed in step),
        segment=min(step, key=lambda placed: placed.at.cursor).at.segment.path,
        addresses=[[(placed.at.segment.path, placed.at.place) for placed in part] for part, _ in parts],
        sources=[[placed.at.segment.source for placed in part] for part, _ in parts],
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
