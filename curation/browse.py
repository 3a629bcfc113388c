"""The read side of a version: conversations as curated, their originals, the trace; and a file's quarantine.

Everything is a scan over Parquet with filters pushed down; memory is bounded by a page, or by one segment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from curation.errors import CurationError
from curation.segments import canonical_message, canonical_user

USER_FILTERS = ("province", "city", "gender", "age_band", "crowd")
CHANGED_BY = ("operator", "code")
DROPPED_FILTERS = (*CHANGED_BY, "q")
KEPT_FILTERS = (*USER_FILTERS, *CHANGED_BY, "q")
TRACE_FILTERS = (*CHANGED_BY, "action", "conversation_id")
ACTIONS = ("edit", "mask", "merge", "cut", "split", "tag", "flag", "no_learn", "drop_turn", "drop_conversation")
AGE_BANDS = ("0-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65+")
GENDERS = ("female", "male")
CHOICES = {"action": ACTIONS, "age_band": AGE_BANDS, "gender": GENDERS}


class FilterError(CurationError):
    """A filter with a value that nothing can have."""

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True)
class Folder:
    """A version's Parquet files, in order: the one at an index in each list is of the same conversations."""

    segments: Sequence[Path]
    dropped: Sequence[Path]
    trace: Sequence[Path]
    raw: Sequence[Path]
    """What the segments were made from."""
    operators: Sequence[str] = ()
    """Kinds of the version's recipe."""


def check_filters(folder: Folder, filters: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuses a filter that is not `known`, or whose value no conversation of the version can have.

    Raises:
        FilterError: naming the filter.
    """
    for name, value in filters.items():
        if name not in known:
            raise FilterError(name, f"is no filter here: any of {', '.join(known)}")
        choices = tuple(dict.fromkeys(folder.operators)) if name == "operator" else CHOICES.get(name)
        if choices is not None and value not in choices:
            what = "the version's recipe has no such operator" if name == "operator" else "no such value"
            raise FilterError(name, f"{what}: one of {', '.join(choices) or 'none, the recipe is empty'}")


def list_conversations(
    folder: Folder, *, after: str | None, limit: int, filters: Mapping[str, str], dropped: bool = False
) -> tuple[list[dict[str, Any]], bool]:
    """A page of kept rows, or of dropped conversations with operator and code, after the given id.

    `filters`: q (text in any message; of a dropped one as it came in), operator and code (changed by; of a dropped one:
    dropped by), province, city, gender, age_band, crowd. Returns the page and whether more follow.

    Raises:
        FilterError: an unknown filter or value, or an `after` that is not in the version.
    """
    check_filters(folder, filters, DROPPED_FILTERS if dropped else KEPT_FILTERS)
    key = "conversation_id" if dropped else "id"
    page: list[dict[str, Any]] = []
    seen = after is None
    for index, path in enumerate(folder.dropped if dropped else folder.segments):
        frame = pl.scan_parquet(path).with_row_index("row")
        if not seen:
            at = frame.filter(pl.col(key) == after).select("row").collect()
            if at.is_empty():
                continue
            seen = True
            frame = frame.filter(pl.col("row") > at.item(0, 0))
        narrow = _filter_dropped if dropped else _filter_kept
        page += narrow(frame, filters, folder, index).limit(limit + 1 - len(page)).collect().to_dicts()
        if len(page) > limit:
            break
    if not seen:
        raise FilterError("after", "names no conversation of this version")
    show = _show_dropped if dropped else show_row
    return [show(row) for row in page[:limit]], len(page) > limit


def get_conversation(folder: Folder, conversation_id: str) -> dict[str, Any] | None:
    """A conversation before and after, with every change: `{original, curated, trace, dropped}`.

    `curated` is null and `dropped` says why when it was removed. With windows, `curated` holds the conversation's
    first one and `windows` all of them. A window's own id finds its conversation too.
    """
    for index, path in enumerate(folder.segments):
        wanted = (pl.col("conversation_id") == conversation_id) | (pl.col("id") == conversation_id)
        rows = pl.scan_parquet(path).filter(wanted).collect().to_dicts()
        if rows:
            rows = [row for row in rows if row["conversation_id"] == conversation_id] or rows
            name = rows[0]["conversation_id"]
            if len(rows) == 1 and rows[0]["window"]:
                rows = pl.scan_parquet(path).filter(pl.col("conversation_id") == name).collect().to_dicts()
            shown = [show_row(row) for row in rows]
            answer = {"curated": shown[0], "dropped": None, "windows": shown if len(shown) > 1 else None}
            return _explain(folder, index, name, rows[0], answer)
        gone = pl.scan_parquet(folder.dropped[index]).filter(pl.col("conversation_id") == conversation_id).collect()
        if not gone.is_empty():
            row = gone.to_dicts()[0]
            why = {"operator": row["operator"], "code": row["code"]}
            return _explain(folder, index, conversation_id, row, {"curated": None, "dropped": why, "windows": None})
    return None


def list_trace(
    folder: Folder, *, filters: Mapping[str, str], after: int = -1, limit: int = 100
) -> tuple[list[dict[str, Any]], bool]:
    """A page of the trace; each row carries its number `row`, the cursor of the next page.

    `filters`: operator, code, action, conversation_id.

    Raises:
        FilterError: an unknown filter or value.
    """
    check_filters(folder, filters, TRACE_FILTERS)
    page: list[dict[str, Any]] = []
    offset = 0
    for path in folder.trace:
        frame = pl.scan_parquet(path)
        height = int(frame.select(pl.len()).collect().item())
        if offset + height > after + 1:
            numbered = frame.with_row_index("row", offset).filter(pl.col("row").cast(pl.Int64) > after)
            wanted = numbered.filter(*(pl.col(name) == value for name, value in filters.items()))
            page += wanted.limit(limit + 1 - len(page)).collect().to_dicts()
        if len(page) > limit:
            break
        offset += height
    return page[:limit], len(page) > limit


def read_quarantine(path: Path, *, after: int = 0, limit: int = 100) -> tuple[list[dict[str, Any]], bool]:
    """A page of a file's quarantine: line and reason, after the given line."""
    page = pl.scan_parquet(path).filter(pl.col("line") > after).limit(limit + 1).collect().to_dicts()
    return page[:limit], len(page) > limit


def _filter_kept(frame: pl.LazyFrame, filters: Mapping[str, str], folder: Folder, index: int) -> pl.LazyFrame:
    user = pl.col("user").struct
    for name in USER_FILTERS:
        if name in filters:
            value = user.field(name)
            hit = value.list.contains(filters[name]) if name == "crowd" else value == filters[name]
            frame = frame.filter(hit)
    if "q" in filters:
        frame = frame.filter(_says(filters["q"]))
    if any(name in filters for name in CHANGED_BY):
        wanted = (pl.col(name) == filters[name] for name in CHANGED_BY if name in filters)
        changed = pl.scan_parquet(folder.trace[index]).filter(*wanted).select("conversation_id").unique()
        frame = frame.join(changed, on="conversation_id", how="semi", maintain_order="left")
    return frame


def _filter_dropped(frame: pl.LazyFrame, filters: Mapping[str, str], folder: Folder, index: int) -> pl.LazyFrame:
    frame = frame.filter(*(pl.col(name) == filters[name] for name in CHANGED_BY if name in filters))
    if "q" in filters:
        originals = pl.scan_parquet(folder.raw[index]).filter(_says(filters["q"])).select("line")
        frame = frame.join(originals, on="line", how="semi", maintain_order="left")
    return frame


def _says(text: str) -> pl.Expr:
    contents = pl.element().struct.field("content").str.contains(text, literal=True)
    return pl.col("messages").list.eval(contents).list.any()


def _explain(folder: Folder, index: int, name: str, row: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    original = pl.scan_parquet(folder.raw[index]).filter(pl.col("line") == row["line"]).collect().to_dicts()[0]
    trace = pl.scan_parquet(folder.trace[index]).filter(pl.col("conversation_id") == name).collect().to_dicts()
    return {"original": show_original(original, name), **answer, "trace": trace}


def show_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A kept row as users see it."""
    return {
        "id": row["id"],
        "messages": [canonical_message(message) for message in row["messages"]],
        "user": canonical_user(row["user"]),
        "meta": orjson.loads(row["meta"]) if row["meta"] else {},
    }


def show_original(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A raw conversation as users see it, under the name it has in the version."""
    return {
        "id": name,
        "messages": [canonical_message(message) for message in row["messages"]],
        "user": orjson.loads(row["user"]) if row["user"] else {},
        "meta": orjson.loads(row["meta"]) if row["meta"] else {},
    }


def _show_dropped(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["conversation_id"], "operator": row["operator"], "code": row["code"]}
