"""The story of a version on one page: what each operator did, with examples, the lengths and the tags of what is left.

Everything is counted by scans over the version's segments; memory is bounded by one of them.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from curation.browse import Folder
from curation.statistics import FIELDS, tag_statistics

NUM_EXAMPLES = 5
NUM_TAG_VALUES = 8
MAX_EXAMPLE_CHARS = 300
"""An example's texts are cut there; the trace has them whole."""
BOUNDS = {
    "turns": (0, 2, 4, 8, 16, 32, 64, 128),
    "characters": (0, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000),
}
"""Where the classes of a length distribution begin; the last one is open."""


def build_report(folder: Folder, counts: Mapping[str, Any]) -> dict[str, Any]:
    """`counts` as they are, `operators` with examples, `reasons` of drops, `lengths` and `tags` of what was kept."""
    by_operator = counts["by_operator"]
    return {
        "counts": {name: value for name, value in counts.items() if name != "by_operator"},
        "operators": [
            {"kind": kind, **done, "examples": _examples(folder.trace, kind)} for kind, done in by_operator.items()
        ],
        "reasons": _reasons(folder.dropped),
        "lengths": {name: _distribution(folder.segments, name, bounds) for name, bounds in BOUNDS.items()},
        "tags": {field: _tag(folder.segments, field) for field in FIELDS},
    }


def _examples(traces: Sequence[Path], kind: str) -> list[dict[str, Any]]:
    """The first changes of an operator that differ from one another, each code in turn."""
    found = pl.DataFrame()
    for path in traces:
        mine = pl.scan_parquet(path).filter(pl.col("operator") == kind)
        distinct = mine.unique(["code", "before", "after"], keep="first", maintain_order=True)
        first = distinct.filter(pl.int_range(pl.len()).over("code") < NUM_EXAMPLES).collect()
        found = pl.concat([found, first] if found.width else [first])
        found = found.unique(["code", "before", "after"], keep="first", maintain_order=True)
        if found.height >= 2 * NUM_EXAMPLES:
            break
    if not found.width:
        return []
    turn_of_code = pl.int_range(pl.len()).over("code")
    shown = ["conversation_id", "turn", "code", "action", "before", "after"]
    cut = [pl.col(name).str.head(MAX_EXAMPLE_CHARS) for name in ("before", "after")]
    ordered = found.with_columns(nth=turn_of_code).sort("nth", maintain_order=True).head(NUM_EXAMPLES)
    return ordered.select(shown).with_columns(cut).to_dicts()


def _reasons(dropped: Sequence[Path]) -> list[dict[str, Any]]:
    if not dropped:
        return []
    counted = pl.concat([pl.scan_parquet(path).group_by("operator", "code").len() for path in dropped])
    total = counted.group_by("operator", "code").agg(pl.col("len").sum().cast(pl.Int64).alias("conversations"))
    return total.sort("conversations", "operator", "code", descending=[True, False, False]).collect().to_dicts()


def _distribution(segments: Sequence[Path], column: str, bounds: Sequence[int]) -> list[dict[str, Any]]:
    """Kept conversations by length, in classes from a bound up to the next one."""
    edges = [*bounds, None]
    classes = dict.fromkeys(range(len(bounds)), 0)
    for path in segments:
        whole = pl.scan_parquet(path).filter(pl.col("window") <= 1)
        place = pl.sum_horizontal([(pl.col(column) >= bound).cast(pl.Int64) for bound in bounds]) - 1
        for number, conversations in whole.group_by(place.alias("class")).len().collect().iter_rows():
            classes[number] += conversations
    return [
        {"from": start, "below": end, "conversations": classes[index]}
        for index, (start, end) in enumerate(pairwise(edges))
    ]


def _tag(segments: Sequence[Path], field: str) -> dict[str, Any]:
    """The most frequent values of a tag, and how many others there are."""
    counted = tag_statistics(segments, by=[field])
    rows = sorted(counted["rows"], key=lambda row: (-row["value"], row[field]))
    shown = [{"value": row[field], "conversations": row["value"], "share": row["share"]} for row in rows]
    return {"values": shown[:NUM_TAG_VALUES], "others": max(0, len(shown) - NUM_TAG_VALUES)}
