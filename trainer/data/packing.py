"""Fills rows with whole samples: best-fit decreasing, so that hardly any padding is left."""

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int | None) -> list[list[int]]:
    """Indices of samples per row; no sample is split, no row exceeds `capacity` tokens; None: a row for each.

    The longest samples are placed first, each in the fullest row that still has room. Deterministic.
    """
    if capacity is None:
        return [[index] for index in range(len(lengths))]
    assert all(0 < length <= capacity for length in lengths)
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        at = bisect_left(room, (length, -1))
        if at == len(room):
            rows.append([index])
            insort(room, (capacity - length, len(rows) - 1))
        else:
            left, row = room.pop(at)
            rows[row].append(index)
            insort(room, (left - length, row))
    return rows
