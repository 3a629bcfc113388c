"""The read side of a version: conversations as curated, their originals, the trace, exports, a file's quarantine.

Everything is a scan over Parquet with filters pushed down; memory is bounded by a page, or by one segment.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from curation.errors import CurationError
from curation.segments import canonical_message, canonical_user

USER_FILTERS = ("province", "gender", "age_band", "crowd")
TRACE_FILTERS = ("operator", "code")
FILTERS = (*USER_FILTERS, *TRACE_FILTERS, "q")
EXPORTS = ("openai",)


@dataclass(frozen=True)
class Folder:
    """A version's Parquet files, in order, and the raw segments of its files."""

    segments: Sequence[Path]
    dropped: Sequence[Path]
    trace: Sequence[Path]
    raw: Sequence[Sequence[Path]]
    """Raw segments per file, in order."""


def list_conversations(
    folder: Folder, *, after: str | None, limit: int, filters: Mapping[str, str], dropped: bool = False
) -> tuple[list[dict[str, Any]], bool]:
    """A page of kept rows, or of dropped conversations with operator and code, after the given id.

    `filters`: q (text in any message), operator and code (changed by), province, gender, age_band, crowd. Returns the
    page and whether more follow.

    Raises:
        CurationError: an unknown filter, or an `after` that is not in the version.
    """
    for name in filters:
        if name not in FILTERS:
            raise CurationError(f"unknown filter {name}: any of {', '.join(FILTERS)}")
    key = "conversation_id" if dropped else "id"
    page: list[dict[str, Any]] = []
    seen = after is None
    paths = folder.dropped if dropped else folder.segments
    for index, path in enumerate(paths):
        frame = pl.scan_parquet(path).with_row_index("row")
        if not seen:
            at = frame.filter(pl.col(key) == after).select("row").collect()
            if at.is_empty():
                continue
            seen = True
            frame = frame.filter(pl.col("row") > at.item(0, 0))
        frame = _filter_dropped(frame, filters) if dropped else _filter_kept(frame, filters, folder.trace[index])
        page += frame.limit(limit + 1 - len(page)).collect().to_dicts()
        if len(page) > limit:
            break
    if not seen:
        raise CurationError("`after` names no conversation of this version")
    show = _show_dropped if dropped else _show_row
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
            name = rows[0]["conversation_id"]
            if len(rows) == 1 and rows[0]["window"]:
                rows = pl.scan_parquet(path).filter(pl.col("conversation_id") == name).collect().to_dicts()
            shown = [_show_row(row) for row in rows]
            answer = {"curated": shown[0], "dropped": None, "windows": shown if len(shown) > 1 else None}
            return _explain(folder, index, name, rows[0], answer)
        gone = pl.scan_parquet(folder.dropped[index]).filter(pl.col("conversation_id") == conversation_id).collect()
        if not gone.is_empty():
            row = gone.to_dicts()[0]
            why = {"operator": row["operator"], "code": row["code"]}
            return _explain(folder, index, conversation_id, row, {"curated": None, "dropped": why, "windows": None})
    return None


def list_trace(
    folder: Folder, *, operator: str | None = None, code: str | None = None, after: int = -1, limit: int = 100
) -> tuple[list[dict[str, Any]], bool]:
    """A page of the trace; each row carries its number `row`, the cursor of the next page."""
    page: list[dict[str, Any]] = []
    offset = 0
    for path in folder.trace:
        frame = pl.scan_parquet(path)
        height = int(frame.select(pl.len()).collect().item())
        if offset + height > after + 1:
            numbered = frame.with_row_index("row", offset).filter(pl.col("row").cast(pl.Int64) > after)
            filters = {"operator": operator, "code": code}
            for name, value in filters.items():
                if value is not None:
                    numbered = numbered.filter(pl.col(name) == value)
            page += numbered.limit(limit + 1 - len(page)).collect().to_dicts()
        if len(page) > limit:
            break
        offset += height
    return page[:limit], len(page) > limit


def export_lines(folder: Folder, format: str = "openai") -> Iterator[bytes]:
    """The kept rows as JSON lines of an export format.

    Raises:
        CurationError: an unknown format.
    """
    if format not in EXPORTS:
        raise CurationError(f"unknown format {format}: any of {', '.join(EXPORTS)}")
    return (orjson.dumps(_show_row(row)) + b"\n" for path in folder.segments for row in _iter_rows(path))


def read_quarantine(path: Path, *, after: int = 0, limit: int = 100) -> tuple[list[dict[str, Any]], bool]:
    """A page of a file's quarantine: line and reason, after the given line."""
    page = pl.scan_parquet(path).filter(pl.col("line") > after).limit(limit + 1).collect().to_dicts()
    return page[:limit], len(page) > limit


def _iter_rows(path: Path, batch: int = 2_000) -> Iterator[dict[str, Any]]:
    height = int(pl.scan_parquet(path).select(pl.len()).collect().item())
    for offset in range(0, height, batch):
        columns = ["id", "messages", "user", "meta"]
        yield from pl.scan_parquet(path).select(columns).slice(offset, batch).collect().iter_rows(named=True)


def _filter_kept(frame: pl.LazyFrame, filters: Mapping[str, str], trace: Path) -> pl.LazyFrame:
    user = pl.col("user").struct
    for name in USER_FILTERS:
        if name in filters:
            value = user.field(name)
            hit = value.list.contains(filters[name]) if name == "crowd" else value == filters[name]
            frame = frame.filter(hit)
    if "q" in filters:
        contents = pl.element().struct.field("content").str.contains(filters["q"], literal=True)
        frame = frame.filter(pl.col("messages").list.eval(contents).list.any())
    if any(name in filters for name in TRACE_FILTERS):
        changed = pl.scan_parquet(trace).filter(*(pl.col(n) == filters[n] for n in TRACE_FILTERS if n in filters))
        frame = frame.join(
            changed.select("conversation_id").unique(), on="conversation_id", how="semi", maintain_order="left"
        )
    return frame


def _filter_dropped(frame: pl.LazyFrame, filters: Mapping[str, str]) -> pl.LazyFrame:
    for name in filters:
        if name not in TRACE_FILTERS:
            raise CurationError(f"dropped conversations are filtered by {' and '.join(TRACE_FILTERS)} only, not {name}")
    return frame.filter(*(pl.col(name) == value for name, value in filters.items())) if filters else frame


def _explain(folder: Folder, index: int, name: str, row: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    original = next(
        rows[0]
        for path in folder.raw[row["file"]]
        if (rows := pl.scan_parquet(path).filter(pl.col("line") == row["line"]).collect().to_dicts())
    )
    trace = pl.scan_parquet(folder.trace[index]).filter(pl.col("conversation_id") == name).collect().to_dicts()
    return {"original": _show_original(original, name), **answer, "trace": trace}


def _show_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "messages": [canonical_message(message) for message in row["messages"]],
        "user": canonical_user(row["user"]),
        "meta": orjson.loads(row["meta"]) if row["meta"] else {},
    }


def _show_original(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "id": name,
        "messages": [canonical_message(message) for message in row["messages"]],
        "user": orjson.loads(row["user"]) if row["user"] else {},
        "meta": orjson.loads(row["meta"]) if row["meta"] else {},
    }


def _show_dropped(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["conversation_id"], "operator": row["operator"], "code": row["code"]}
