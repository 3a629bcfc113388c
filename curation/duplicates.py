"""Which conversations are there already: exactly, or nearly.

Every segment tells of each conversation a hash of its content and the bands of its MinHash signature. Equal hashes are
exact duplicates. Of the others, those that share a band are compared: a conversation is a near duplicate of an earlier
one that is kept if their sets of character triples are as alike as asked for, and if turn by turn only scattered
characters differ, not only digits. So a template filled in with another product or other numbers stays, where Jaccard's
measure alone would drop it.

"Earlier" is the order of segments and of conversations in them. A conversation that is dropped stands for no other one.
Memory holds one band's numbers at a time, and what shares any; texts lie on disk.
"""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from rapidfuzz.distance import Levenshtein

from curation.likely_pairs import LikelyPairs, numbered
from curation.operator import Dialogues, Resources, Shard
from curation.shingles import SIZE, shingles, similarity, sketch

DECISIONS = pl.Schema({"conversation": pl.UInt32, "code": pl.String, "kept": pl.String, "score": pl.Float64})
"""Conversations of a segment to drop, each with the id of the one that is kept."""
SEPARATOR = "\n"
MIN_CHARS = 40
"""Shorter conversations have exact duplicates only: in so few characters each may be what matters."""
NUMBER = re.compile(r"\d+")
SHINGLED = 500
"""Conversations whose shingles are held in memory at a time."""
MORE_SHARE = 0.1
"""Of a conversation's characters, what may stand in turns that a near duplicate does not have."""
Place = tuple[int, int]
"""A segment's number, and a conversation's in it."""
Talk = tuple[tuple[str, ...], tuple[str, ...]]
"""Roles and texts."""


class Likeness(Protocol):
    """What counts as a near duplicate."""

    @property
    def near(self) -> bool: ...
    @property
    def threshold(self) -> float: ...


def survey_conversations(dialogues: Dialogues, config: Likeness, resources: Resources) -> pl.DataFrame:
    """A row a conversation: its number and id, a hash of its content, and its sketch if near duplicates are wanted."""
    talks = dialogues.turns.group_by("conversation", maintain_order=True).agg("role", "text")
    named = talks.join(dialogues.conversations.select("conversation", "id"), on="conversation", maintain_order="left")
    length = pl.col("text").list.eval(pl.element().str.len_bytes().cast(pl.String)).list.join(",")
    content = named.select(
        pl.concat_str(pl.col("role").list.join(","), length, pl.col("text").list.join(SEPARATOR), separator=SEPARATOR)
    ).to_series()
    hashes = pl.Series(
        "content", [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in content], pl.Binary
    )
    table = named.select("conversation", "id").with_columns(hashes)
    return pl.concat([table, sketch(named["text"].list.join(SEPARATOR))], how="horizontal") if config.near else table


def find_duplicates(shards: Sequence[Shard], config: Likeness, scratch: Path) -> list[pl.DataFrame]:
    """The decisions on each segment: rows of DECISIONS."""
    firsts, repeats = _exact(shards)
    near = _near(shards, firsts, config, scratch) if config.near else {}
    decided: dict[int, list[tuple[int, str, str, float]]] = defaultdict(list)
    for (shard, conversation), (kept, score) in near.items():
        decided[shard].append((conversation, "near", kept, score))
    for (shard, conversation), first, kept in repeats:
        standing, score = near.get(first, (kept, 1.0))
        decided[shard].append((conversation, "near" if first in near else "exact", standing, score))
    return [pl.DataFrame(sorted(decided[number]), DECISIONS, orient="row") for number in range(len(shards))]


def _exact(shards: Sequence[Shard]) -> tuple[pl.DataFrame | None, list[tuple[Place, Place, str]]]:
    """The places that repeat a content: all of them, and each with the first place of its content and that one's id."""
    if not shards:
        return None, []
    table = numbered(shards, "content")
    again = table.filter(~pl.col("content").is_first_distinct())
    if again.is_empty():
        return None, []
    first = table.unique("content", keep="first", maintain_order=True).join(again, on="content", how="semi")
    ids = _ids(shards, first)
    joined = again.join(
        first.rename({"shard": "first_shard", "conversation": "first"}), on="content", maintain_order="left"
    )
    rows = joined.select("shard", "conversation", "first_shard", "first").iter_rows()
    return again.select("shard", "conversation"), [((a, b), (c, d), ids[c, d]) for a, b, c, d in rows]


def _ids(shards: Sequence[Shard], places: pl.DataFrame) -> dict[Place, str]:
    """The ids of conversations."""
    found: dict[Place, str] = {}
    for (number,), mine in places.group_by("shard", maintain_order=True):
        named = shards[number].survey.select("conversation", "id").join(mine.lazy(), on="conversation", how="semi")
        found |= {(number, conversation): name for conversation, name in named.collect().iter_rows()}
    return found


def _near(
    shards: Sequence[Shard], repeats: pl.DataFrame | None, config: Likeness, scratch: Path
) -> dict[Place, tuple[str, float]]:
    """The near duplicates among conversations of different content: who is kept instead, and how alike they are."""
    if not shards:
        return {}
    likely = LikelyPairs(shards, repeats, config.threshold, scratch)
    talks = _Talks(shards, likely.places, scratch)
    found: dict[int, tuple[int, float]] = {}
    for number, earlier in likely:
        alike = ((other, talks.likeness(other, number, config.threshold)) for other in earlier)
        first = next(((other, score) for other, score in alike if score is not None), None)
        if first is not None:
            found[number] = first
            likely.drop(number)
    place = dict(zip(found, likely.places[list(found)].iter_rows(), strict=True))
    standing = sorted({other for other, _ in found.values()})
    kept = likely.places[standing]
    ids, where = _ids(shards, kept), dict(zip(standing, kept.iter_rows(), strict=True))
    return {place[number]: (ids[where[other]], score) for number, (other, score) in found.items()}


class _Talks:
    """The conversations that are compared, by their numbers, in scratch files that are mapped into memory.

    A segment's are written when the first of them is asked for.
    """

    def __init__(self, shards: Sequence[Shard], places: pl.DataFrame, scratch: Path) -> None:
        self._shards, self._places, self._scratch = shards, places, scratch
        sizes = places.group_by("shard", maintain_order=True).len()
        self._numbers = sizes["shard"].to_list()
        self._begins = np.cumsum([0, *sizes["len"]])
        self._part = lru_cache(maxsize=None)(self._written)
        self._shingles = lru_cache(SHINGLED)(lambda number: shingles(SEPARATOR.join(self._talk(number)[1])))

    def _written(self, part: int) -> pa.Table:
        begin, end = self._begins[part : part + 2].tolist()
        wanted = pl.col("conversation").is_in(self._places[begin:end]["conversation"].implode())
        turns = self._shards[self._numbers[part]].turns().filter(wanted).select("conversation", "role", "text")
        talks = turns.collect().group_by("conversation", maintain_order=True).agg("role", "text")
        path = self._scratch / f"{part}.arrow"
        talks.select("role", "text").write_ipc(path)
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def _talk(self, number: int) -> Talk:
        part = int(np.searchsorted(self._begins, number, side="right")) - 1
        table, row = self._part(part), number - int(self._begins[part])
        roles, texts = (table[name][row].as_py() for name in ("role", "text"))
        return tuple(roles), tuple(texts)

    def likeness(self, one: int, other: int, threshold: float) -> float | None:
        """How alike two conversations are; None if they are no near duplicates."""
        score = similarity(self._shingles(one), self._shingles(other))
        talks = self._talk(one), self._talk(other)
        if min(len(SEPARATOR.join(texts)) for _, texts in talks) < MIN_CHARS:
            return None
        if score < threshold or differ_in_numbers_only(*talks) or not differ_here_and_there(*talks, threshold):
            return None
        return score


def differ_in_numbers_only(one: Talk, other: Talk) -> bool:
    """Whether they are one template with other numbers: amounts and orders are what such conversations are about."""
    return one[0] == other[0] and all(
        NUMBER.sub("0", text) == NUMBER.sub("0", their_text) for text, their_text in zip(one[1], other[1], strict=True)
    )


def differ_here_and_there(one: Talk, other: Talk, threshold: float) -> bool:
    """Whether each turn of the shorter conversation stands, but for scattered edits, in the longer one, in order.

    As many edits are let pass as would be rare (two deviations over the mean) if characters were edited at random, so
    often that triples are as alike as `threshold`. Turns that only the longer one has may be a small share of it.
    """
    shorter, longer = sorted((one, other), key=lambda talk: len(talk[0]))
    rate = 1 - (2 * threshold / (1 + threshold)) ** (1 / SIZE)
    rest = iter(zip(*longer, strict=True))
    more = 0
    for role, text in zip(*shorter, strict=True):
        for their_role, their_text in rest:
            if role == their_role and _is_edited(text, their_text, rate):
                break
            more += len(their_text)
        else:
            return False
    more += sum(len(text) for _, text in rest)
    return len(shorter[0]) == len(longer[0]) or more <= MORE_SHARE * sum(map(len, longer[1]))


def _is_edited(one: str, other: str, rate: float) -> bool:
    mean = rate * max(len(one), len(other))
    most = 1 + math.floor(mean + 2 * math.sqrt(mean))
    return Levenshtein.distance(one, other, score_cutoff=most) <= most
