"""Which conversations may be near duplicates of which earlier ones: they share a band, and their sketches agree.

Conversations are looked at window by window, each with all earlier ones that share a band with it, in arrays. Where
very many share one, as a campaign's conversations do, only those are looked at that still stand: a thousand copies of
one conversation are then a thousand comparisons, not half a million. Memory holds which conversations share which
bands, and the pairs of one window; sketches lie in a file that is mapped.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.operator import Shard
from curation.shingles import BANDS, ROWS, SKETCH, may_be_similar

WINDOW = 1_024
"""Conversations whose pairs are looked at together."""
CROWD = 256
"""Where more conversations share a band, each is compared with those that stand, when its turn comes."""
PAIRS_AT_ONCE = 512
"""Pairs whose sketches are compared in one call: they fit the processor's cache."""
Places = npt.NDArray[np.uint32]


class LikelyPairs:
    """Conversations of different content in their order, each with the earlier ones that it may be nearly the same as.

    `repeats` are the places (shard, conversation) that repeat a content exactly, and take no part. Whoever goes through
    the pairs says which conversations are dropped: those are not offered to later ones.
    """

    def __init__(self, shards: Sequence[Shard], repeats: pl.DataFrame | None, threshold: float, scratch: Path) -> None:
        shared = _shared(shards, repeats)
        self.places = shared.select("shard", "conversation").unique(maintain_order=True)
        """Where each conversation that takes part is, by its number here."""
        self._threshold = threshold
        self._number, self._group = shared["place"].to_numpy(), shared["group"].to_numpy()
        by_group = np.argsort(self._group, kind="stable")
        self._members: Places = self._number[by_group]
        self._at = np.empty(len(by_group), dtype=np.int64)  # where an entry stands among the members of its group
        self._at[by_group] = np.arange(len(by_group))
        sizes = np.bincount(self._group)
        self._begins, self._is_crowd = np.cumsum(sizes) - sizes, sizes > CROWD
        self._dropped = np.zeros(self.places.height, dtype=np.bool_)
        self._standing: defaultdict[int, array[int]] = defaultdict(lambda: array("I"))
        self._sketches = _gathered(shards, self.places, scratch / "sketches")

    def drop(self, number: int) -> None:
        """Takes out a conversation that is dropped: it stands for no later one."""
        self._dropped[number] = True

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        """Numbers of conversations, each with those of the earlier ones, in order, that it is to be compared with."""
        for first in range(0, self.places.height, WINDOW):
            entries = slice(*np.searchsorted(self._number, (first, first + WINDOW)))
            numbers, groups = self._number[entries], self._group[entries]
            is_crowd = self._is_crowd[groups]
            likely = self._likely(numbers[~is_crowd], groups[~is_crowd], self._at[entries][~is_crowd])
            crowds: defaultdict[int, list[int]] = defaultdict(list)
            for number, group in zip(numbers[is_crowd].tolist(), groups[is_crowd].tolist(), strict=True):
                crowds[number].append(group)
            for number in sorted({*likely, *crowds}):
                earlier = {other for other in likely.get(number, ()) if not self._dropped[other]}
                earlier.update(self._likely_in(crowds[number], number) if number in crowds else ())
                if earlier:
                    yield number, sorted(earlier)
                if not self._dropped[number]:
                    for group in crowds.get(number, ()):
                        self._standing[group].append(number)

    def _likely(self, numbers: Places, groups: Places, at: npt.NDArray[np.int64]) -> dict[int, list[int]]:
        """The likely pairs of a window's entries with earlier members of their groups."""
        counts = at - self._begins[groups]
        places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - at, counts)
        later, earlier = np.repeat(numbers, counts), self._members[places]
        stand = ~self._dropped[earlier]
        pairs = np.unique(later[stand].astype(np.uint64) << np.uint64(32) | earlier[stand])
        later, earlier = (pairs >> np.uint64(32)).astype(np.uint32), pairs.astype(np.uint32)
        passed = self._agree(later, earlier)
        found: defaultdict[int, list[int]] = defaultdict(list)
        for number, other in zip(later[passed].tolist(), earlier[passed].tolist(), strict=True):
            found[number].append(other)
        return dict(found)

    def _likely_in(self, groups: Sequence[int], number: int) -> list[int]:
        """Those that stand in some groups and are likely pairs with a conversation."""
        standing = [np.frombuffer(self._standing[group], np.uint32) for group in groups if self._standing[group]]
        if not standing:
            return []
        earlier = np.unique(np.concatenate(standing))
        found: list[int] = earlier[self._agree(np.full_like(earlier, number), earlier)].tolist()
        return found

    def _agree(self, later: Places, earlier: Places) -> npt.NDArray[np.bool_]:
        """Of pairs, whether the sketches leave it open that they are as alike as the threshold."""
        parts = [
            may_be_similar(self._sketches[later[part]], self._sketches[earlier[part]], self._threshold)
            for begin in range(0, len(later), PAIRS_AT_ONCE)
            for part in (slice(begin, begin + PAIRS_AT_ONCE),)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def numbered(shards: Sequence[Shard], *columns: str) -> pl.DataFrame:
    """Some columns of all surveys, with the number of the segment as `shard`."""
    parts = [
        one.survey.select(pl.lit(number, pl.UInt32).alias("shard"), "conversation", *columns)
        for number, one in enumerate(shards)
    ]
    return pl.concat(pl.collect_all(parts))


def _shared(shards: Sequence[Shard], repeats: pl.DataFrame | None) -> pl.DataFrame:
    """Conversations of different content that share bands, in order, each once for each group that shares one.

    Columns: shard, conversation, `place` (its number among them), `group`.
    """
    found, num_groups = [], 0
    for band in range(BANDS if shards else 0):
        table = numbered(shards, f"band_{band}").rename({f"band_{band}": "number"})
        if repeats is not None:
            table = table.join(repeats, on=["shard", "conversation"], how="anti", maintain_order="left")
        common = table.filter(pl.col("number").is_duplicated())
        group = pl.col("number").rank("dense").cast(pl.UInt32) - 1 + num_groups
        found.append(common.select("shard", "conversation", group=group))
        num_groups += common["number"].n_unique()
    empty = pl.DataFrame(schema=dict.fromkeys(("shard", "conversation", "group"), pl.UInt32))
    joined = pl.concat([empty, *found])
    return joined.sort("shard", "conversation", maintain_order=True).with_columns(
        place=pl.struct("shard", "conversation").rle_id()
    )


def _gathered(shards: Sequence[Shard], places: pl.DataFrame, file: Path) -> npt.NDArray[np.uint16]:
    """The sketches of conversations, a row each, in a file that is mapped."""
    if places.is_empty():
        return np.zeros((0, BANDS * ROWS), dtype=SKETCH)
    with file.open("wb") as written:
        for (shard,), mine in places.group_by("shard", maintain_order=True):
            wanted = pl.col("conversation").is_in(mine["conversation"].implode())
            written.writelines(shards[int(str(shard))].survey.filter(wanted).select("sketch").collect().to_series())
    mapped = np.memmap(file, SKETCH, "r", shape=(places.height, BANDS * ROWS))
    return np.asarray(mapped)  # a row of a memmap takes as long as comparing it
