"""What differs between two versions: conversations by id and content, the operators that made it so, and the recipes.

A conversation is compared as a whole: the hashes of its rows in order. Conversations are dealt into buckets by id and
one bucket is joined at a time, so memory is bounded by a bucket and a page, whatever the size of the versions.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl

from curation.browse import FilterError, Folder, show_row

CHANGES = ("added", "removed", "changed")
BUCKET_ROWS = 1_000_000
KEYS = pl.Schema({"conversation_id": pl.String, "row": pl.UInt32, "row_sha256": pl.Binary})


@dataclass(frozen=True)
class Difference:
    """A page of the differences, and the counts of all."""

    counts: dict[str, int]
    """added, removed, changed, unchanged conversations."""
    conversations: list[dict[str, Any]]
    has_more: bool


def diff_versions(
    before: Folder, after: Folder, *, last: str | None = None, limit: int = 20, change: str | None = None,
    bucket_rows: int = BUCKET_ROWS,
) -> Difference:  # fmt: skip
    """What `after` holds otherwise than `before`, following the conversation `last`.

    Added and changed conversations come in the order of `after`, then the removed ones in that of `before`. Each has
    `id`, `change`, `before` and `after` (a conversation or null), the `operators` whose trace differs, and in
    `dropped` the operator and code that removed it from the side where it is missing, null if it never was there.

    Raises:
        FilterError: `last` is in neither version, or `change` is none.
    """
    if change is not None and change not in CHANGES:
        raise FilterError("change", f"no such value: one of {', '.join(CHANGES)}")
    heights = {side: [_height(path) for path in folder.segments] for side, folder in _sides(before, after)}
    num_after = sum(heights["after"])
    passed = -1 if last is None else _place_of(before, after, last, num_after)
    counts = dict.fromkeys((*CHANGES, "unchanged"), 0)
    page = pl.DataFrame()
    num_buckets = max(1, -(-(num_after + sum(heights["before"])) // bucket_rows))
    for bucket in range(num_buckets):
        compared = _compare(before, after, bucket, num_buckets, num_after)
        for kind, number in compared.group_by("change").len().iter_rows():
            counts[kind] += number
        wanted = pl.col("change") != "unchanged" if change is None else pl.col("change") == change
        found = compared.filter(wanted, pl.col("place") > passed)
        page = pl.concat([page, found] if page.width else [found]).sort("place").head(limit + 1)
    rows = page.head(limit).to_dicts()
    sides = {side: _Side(folder, heights[side], rows, side) for side, folder in _sides(before, after)}
    shown = [_show(row, sides["before"], sides["after"]) for row in rows]
    return Difference(counts, shown, page.height > limit)


def diff_recipes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Operators added and removed by kind, and the fields of those in both that differ; `reordered` if they moved."""
    old, new = ({_name(ops, i): op for i, op in enumerate(ops)} for ops in (before["operators"], after["operators"]))
    changed = []
    for name in (name for name in new if name in old):
        fields = {
            field: {"before": old[name].get(field), "after": new[name].get(field)}
            for field in dict.fromkeys((*old[name], *new[name]))
            if old[name].get(field) != new[name].get(field)
        }
        if fields:
            changed.append({"operator": name, "fields": fields})
    return {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": changed,
        "reordered": [name for name in old if name in new] != [name for name in new if name in old],
    }


def diff_counts(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Both sides of every count of a version, nested as they are; a count that one side lacks is 0 there."""
    names = dict.fromkeys((*before, *after))
    nested = [name for name in names if isinstance(before.get(name) or after.get(name), Mapping)]
    return {
        name: diff_counts(before.get(name) or {}, after.get(name) or {})
        if name in nested
        else {"before": before.get(name, 0), "after": after.get(name, 0)}
        for name in names
    }


def _name(operators: Sequence[Mapping[str, Any]], index: int) -> str:
    """An operator's kind; with its number from the second of a kind on."""
    kind: str = operators[index]["kind"]
    earlier = sum(other["kind"] == kind for other in operators[:index])
    return f"{kind}#{earlier + 1}" if earlier else kind


def _sides(before: Folder, after: Folder) -> tuple[tuple[str, Folder], ...]:
    return ("before", before), ("after", after)


def _height(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def _keys(folder: Folder) -> pl.LazyFrame:
    """Each row's conversation, number in the version, and hash."""
    if not folder.segments:
        return pl.LazyFrame(schema=KEYS)
    rows = pl.scan_parquet(list(folder.segments), row_index_name="row")
    return rows.select("conversation_id", "row", "row_sha256")


def _place_of(before: Folder, after: Folder, conversation_id: str, num_after: int) -> int:
    for folder, offset in ((after, 0), (before, num_after)):
        rows = _keys(folder).filter(pl.col("conversation_id") == conversation_id).select(pl.col("row").min())
        row = rows.collect(engine="streaming").item()
        if row is not None:
            return int(row) + offset
    raise FilterError("after", "names no conversation of either version")


def _compare(before: Folder, after: Folder, bucket: int, num_buckets: int, num_after: int) -> pl.DataFrame:
    """The bucket's conversations: id, change, place (order of the answer), row and row_before."""
    mine = pl.col("conversation_id").hash() % num_buckets == bucket
    content = pl.col("row_sha256").sort_by("row").bin.encode("hex").str.join().alias("content")
    old, new = (
        _keys(folder).filter(mine).group_by("conversation_id").agg(pl.col("row").min().cast(pl.Int64), content)
        for folder in (before, after)
    )
    joined = new.join(old, on="conversation_id", how="full", coalesce=True, suffix="_before")
    change = (
        pl.when(pl.col("row_before").is_null())
        .then(pl.lit("added"))
        .when(pl.col("row").is_null())
        .then(pl.lit("removed"))
        .when(pl.col("content") != pl.col("content_before"))
        .then(pl.lit("changed"))
        .otherwise(pl.lit("unchanged"))
    )
    place = pl.coalesce("row", pl.col("row_before") + num_after)
    columns = ["conversation_id", change.alias("change"), place.alias("place"), "row", "row_before"]
    return joined.select(columns).collect(engine="streaming")


class _Side:
    """What one version holds of the conversations of a page."""

    def __init__(self, folder: Folder, heights: Sequence[int], page: Sequence[Mapping[str, Any]], side: str) -> None:
        column = "row" if side == "after" else "row_before"
        ends = list(accumulate(heights))
        held = {row["conversation_id"]: bisect_right(ends, row[column]) for row in page if row[column] is not None}
        absent = [row["conversation_id"] for row in page if row[column] is None]
        indices = sorted(set(held.values()))
        self.rows = _by_conversation([folder.segments[index] for index in indices], list(held))
        self.trace = _by_conversation([folder.trace[index] for index in indices], list(held))
        self.dropped = _by_conversation(folder.dropped if absent else [], absent)

    def conversation(self, conversation_id: str) -> dict[str, Any] | None:
        """As curated: the first window, and all of them when there are several."""
        rows = [show_row(row) for row in self.rows.get(conversation_id, ())]
        return {**rows[0], "windows": rows if len(rows) > 1 else None} if rows else None

    def trace_by_operator(self, conversation_id: str) -> dict[str, list[dict[str, Any]]]:
        """The conversation's changes, apart by operator."""
        changes: dict[str, list[dict[str, Any]]] = {}
        for row in self.trace.get(conversation_id, ()):
            changes.setdefault(row["operator"], []).append(row)
        return changes

    def why_dropped(self, conversation_id: str) -> dict[str, str] | None:
        """Operator and code; None for a conversation that was not in the input."""
        rows = self.dropped.get(conversation_id)
        return {"operator": rows[0]["operator"], "code": rows[0]["code"]} if rows else None


def _by_conversation(paths: Sequence[Path], ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    wanted = pl.col("conversation_id").is_in(list(ids))
    for path in paths:
        for row in pl.scan_parquet(path).filter(wanted).collect().iter_rows(named=True):
            grouped.setdefault(row["conversation_id"], []).append(row)
    return grouped


def _show(row: Mapping[str, Any], before: _Side, after: _Side) -> dict[str, Any]:
    name = row["conversation_id"]
    missing = {"added": before, "removed": after}.get(row["change"])
    old, new = before.trace_by_operator(name), after.trace_by_operator(name)
    operators = [kind for kind in dict.fromkeys((*old, *new)) if old.get(kind) != new.get(kind)]
    return {
        "id": name,
        "change": row["change"],
        "before": before.conversation(name),
        "after": after.conversation(name),
        "operators": operators if row["change"] == "changed" else [],
        "dropped": missing.why_dropped(name) if missing is not None else None,
    }
