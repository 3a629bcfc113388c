"""Which conversations may be near duplicates of which earlier ones: they share a band, and their sketches agree.

Conversations are looked at window by window, each with all earlier ones that share a band with it, in arrays. Where
very many share one, as a campaign's conversations do, only those are looked at that still stand: a thousand copies of
one conversation are then a thousand comparisons, not half a million. Memory holds which conversations share which
bands, the pairs of one window, and the sketches of those that stand in a crowd; all other sketches lie in a file, which
is read from its beginning for each window.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.operator import Shard
from curation.shingles import BANDS, ROWS, SKETCH, may_be_similar

WINDOW = 1 << 14
"""Most conversations whose pairs are looked at together."""
WINDOW_PAIRS = 1 << 20
"""About how many pairs are looked at together."""
CROWD = 256
"""Where more conversations share a band, each is compared with those that stand, when its turn comes."""
PAIRS_AT_ONCE = 512
"""Pairs whose sketches are compared in one call: they fit the processor's cache."""
BAND_NUMBERS_AT_ONCE = 1 << 21
"""About how many numbers of bands are read in one call."""
SKETCHES_AT_ONCE = 1 << 13
"""Sketches that are read in one call."""
Places = npt.NDArray[np.uint32]
Sketches = npt.NDArray[np.uint16]
Unsigned = TypeVar("Unsigned", np.uint32, np.uint64)


class LikelyPairs:
    """Conversations of different content in their order, each with the earlier ones that it may be nearly the same as.

    `repeats` are the places (shard, conversation) that repeat a content exactly, and take no part. Whoever goes through
    the pairs says which conversations are dropped: those are not offered to later ones.
    """

    def __init__(self, shards: Sequence[Shard], repeats: pl.DataFrame | None, threshold: float, scratch: Path) -> None:
        everyone = numbered(shards)
        row, self._group = _shared(shards, _taking_part(everyone, repeats))
        starts = np.append(np.ones(min(1, len(row)), dtype=np.bool_), row[1:] != row[:-1])
        self.places = everyone[row[starts]]
        """Where each conversation that takes part is, by its number here."""
        self._number = (np.cumsum(starts, dtype=np.uint32) - 1).astype(np.uint32)
        by_group = np.argsort(self._group, kind="stable")
        self._members: Places = self._number[by_group]
        self._at = np.empty(len(by_group), dtype=np.uint32)  # where an entry stands among the members of its group
        self._at[by_group] = np.arange(len(by_group), dtype=np.uint32)
        sizes = np.bincount(self._group)
        self._begins, self._is_crowd = (np.cumsum(sizes) - sizes).astype(np.uint32), sizes > CROWD
        self._threshold, self._file = threshold, scratch / "sketches"
        _gather_sketches(shards, self.places, self._file)
        self._dropped = np.zeros(self.places.height, dtype=np.bool_)
        self._crowds = _Crowds(self.places.height, scratch / "crowds")

    def drop(self, number: int) -> None:
        """Takes out a conversation that is dropped: it stands for no later one."""
        self._dropped[number] = True

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        """Numbers of conversations, each with those of the earlier ones, in order, that it is to be compared with."""
        for first, end in self._windows():
            entries = slice(*np.searchsorted(self._number, (first, end)))
            numbers, groups = self._number[entries], self._group[entries]
            sketches = self._read(first, end)
            is_crowd = self._is_crowd[groups]
            likely = self._likely(numbers[~is_crowd], groups[~is_crowd], self._at[entries][~is_crowd], first, sketches)
            crowds: defaultdict[int, list[int]] = defaultdict(list)
            for number, group in zip(numbers[is_crowd].tolist(), groups[is_crowd].tolist(), strict=True):
                crowds[number].append(group)
            for number in sorted({*likely, *crowds}):
                earlier = {other for other in likely.get(number, ()) if not self._dropped[other]}
                if number in crowds:
                    earlier |= self._crowds.likely(crowds[number], sketches[number - first], self._threshold)
                if earlier:
                    yield number, sorted(earlier)
                if number in crowds and not self._dropped[number]:
                    self._crowds.add(crowds[number], number, sketches[number - first])

    def _windows(self) -> Iterator[tuple[int, int]]:
        """From which number to which conversations are looked at together."""
        counts = np.where(self._is_crowd[self._group], 0, self._at - self._begins[self._group])
        pairs = np.cumsum(np.bincount(self._number, weights=counts, minlength=self.places.height))
        first, done = 0, 0.0
        while first < self.places.height:
            end = int(np.searchsorted(pairs, done + WINDOW_PAIRS, side="right"))
            end = min(max(end, first + 1), first + WINDOW, self.places.height)
            yield first, end
            first, done = end, float(pairs[end - 1])

    def _likely(
        self, numbers: Places, groups: Places, at: Places, first: int, sketches: Sketches
    ) -> dict[int, list[int]]:
        """The likely pairs of a window's entries with earlier members of their groups."""
        counts = (at - self._begins[groups]).astype(np.int64)
        places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - at, counts)
        later, earlier = np.repeat(numbers, counts), self._members[places]
        stand = ~self._dropped[earlier]
        pairs = _once(earlier[stand].astype(np.uint64) << np.uint64(32) | later[stand])
        later, earlier = pairs.astype(np.uint32), (pairs >> np.uint64(32)).astype(np.uint32)
        found: defaultdict[int, list[int]] = defaultdict(list)
        bounds = np.searchsorted(earlier, np.arange(0, first + len(sketches), SKETCHES_AT_ONCE))
        for part, (begin, end) in enumerate(zip(bounds, [*bounds[1:], len(earlier)], strict=True)):
            if begin == end:
                continue
            others = self._read(base := part * SKETCHES_AT_ONCE, base + SKETCHES_AT_ONCE)
            passed = begin + _agreeing(
                sketches, later[begin:end] - first, others, earlier[begin:end] - base, self._threshold
            )
            for number, other in zip(later[passed].tolist(), earlier[passed].tolist(), strict=True):
                found[number].append(other)
        return dict(found)

    def _read(self, first: int, end: int) -> Sketches:
        width = BANDS * ROWS
        read = np.fromfile(self._file, SKETCH, (end - first) * width, offset=first * width * SKETCH.itemsize)
        return read.reshape(-1, width)


class _Crowds:
    """Those that stand in groups that are crowds, and their sketches, which are mapped where they lie side by side."""

    def __init__(self, most: int, file: Path) -> None:
        shape = (max(most, 1), BANDS * ROWS)
        self._sketches = np.asarray(np.memmap(file, SKETCH, "w+", shape=shape))  # a plain array is quicker
        self._numbers = array("I")
        self._standing: defaultdict[int, array[int]] = defaultdict(lambda: array("I"))

    def add(self, groups: Sequence[int], number: int, sketch: Sketches) -> None:
        """From now on a conversation stands in some groups."""
        row = len(self._numbers)
        self._sketches[row] = sketch
        self._numbers.append(number)
        for group in groups:
            self._standing[group].append(row)

    def likely(self, groups: Sequence[int], sketch: Sketches, threshold: float) -> set[int]:
        """Those that stand in some groups and may be as alike as the threshold."""
        standing = [np.frombuffer(self._standing[group], np.uint32) for group in groups if self._standing[group]]
        if not standing:
            return set()
        rows = _once(np.concatenate(standing))
        passed = _agreeing(sketch[np.newaxis], np.zeros_like(rows), self._sketches, rows, threshold)
        return {self._numbers[row] for row in rows[passed].tolist()}


def _agreeing(ones: Sketches, one: Places, others: Sketches, other: Places, threshold: float) -> npt.NDArray[np.int64]:
    """Which pairs of rows leave it open that their texts are as alike as the threshold: places in `one` and `other`."""
    passed = [
        begin + np.flatnonzero(may_be_similar(ones[one[part]], others[other[part]], threshold))
        for begin in range(0, len(one), PAIRS_AT_ONCE)
        for part in (slice(begin, begin + PAIRS_AT_ONCE),)
    ]
    return np.concatenate(passed) if passed else np.zeros(0, dtype=np.int64)


def _once(values: npt.NDArray[Unsigned]) -> npt.NDArray[Unsigned]:
    """Each value once, in order; `numpy.unique` hashes them, which takes several times as long as sorting."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return ordered[is_new]


def numbered(shards: Sequence[Shard], *columns: str) -> pl.DataFrame:
    """Some columns of all surveys, with the number of the segment as `shard`."""
    parts = [
        one.survey.select(pl.lit(number, pl.UInt32).alias("shard"), "conversation", *columns)
        for number, one in enumerate(shards)
    ]
    return pl.concat(pl.collect_all(parts))


def _taking_part(everyone: pl.DataFrame, repeats: pl.DataFrame | None) -> Places:
    """Rows of all conversations but those that repeat a content."""
    rows = everyone.with_row_index("row")
    if repeats is not None:
        rows = rows.join(repeats, on=["shard", "conversation"], how="anti", maintain_order="left")
    return rows["row"].to_numpy()


def _shared(shards: Sequence[Shard], rows: Places) -> tuple[Places, Places]:
    """Which of some rows of all surveys share a band: each once for each group that shares one, and the group."""
    found, groups, num_groups = [], [], 0
    for of_all in _bands(shards, len(rows)):
        numbers = of_all[rows]
        order = np.argsort(numbers)
        is_same = np.diff(numbers[order]) == 0  # as the next one
        is_first, is_last = ~np.append(False, is_same), ~np.append(is_same, False)
        is_common = ~(is_first & is_last)[: len(order)]
        group = np.cumsum(is_first[: len(order)][is_common])
        found.append(rows[order[is_common]])
        groups.append((group + (num_groups - 1)).astype(np.uint32))
        num_groups += int(group[-1]) if len(group) else 0
    row = np.concatenate(found)
    found.clear()  # as much memory as anything here
    order = np.argsort(row, kind="stable")
    return row[order], np.concatenate(groups)[order]


def _bands(shards: Sequence[Shard], num_rows: int) -> Iterator[npt.NDArray[np.uint64]]:
    """Each band's numbers of all surveys; as many bands are read at a time as take little memory."""
    names = [f"band_{band}" for band in range(BANDS)]
    together = max(1, BAND_NUMBERS_AT_ONCE // max(1, num_rows))
    for first in range(0, BANDS, together):
        read = names[first : first + together]
        table = pl.concat(pl.collect_all([one.survey.select(read) for one in shards]))
        for name in read:
            yield table[name].to_numpy()


def _gather_sketches(shards: Sequence[Shard], places: pl.DataFrame, file: Path) -> None:
    """Writes the sketches of conversations one after the other."""
    with file.open("wb") as written:
        for (shard,), mine in places.group_by("shard", maintain_order=True):
            wanted = pl.col("conversation").is_in(mine["conversation"].implode())
            column = shards[int(str(shard))].survey.filter(wanted).select("sketch").collect().to_series().to_arrow()
            bounds, content = column.buffers()[1:]
            ends = np.frombuffer(bounds, np.int64)[column.offset :]
            written.write(memoryview(content)[ends[0] : ends[len(column)]])
