"""A recipe tried on a few conversations, in memory: before, after, and every change between."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import orjson
import polars as pl

from curation.browse import show_original, show_row
from curation.errors import CurationError
from curation.formats.encodings import RecordError
from curation.formats.messages import parse_conversation
from curation.recipe import Recipe
from curation.run import curate_frame
from curation.segments import RAW_SCHEMA, TRACE_SCHEMA

FIELD = re.compile(r"^`([^`]+)`")
"""What a record's error is about stands first in its message."""


class PreviewError(CurationError):
    """A conversation that cannot be read."""

    def __init__(self, index: int, reason: str):
        field = FIELD.match(reason)
        self.param = f"conversations[{index}]" + (f".{field[1]}" if field else "")
        super().__init__(f"{self.param}: {reason}")


def preview(conversations: Sequence[object], recipe: Recipe, *, as_of: date) -> list[dict[str, Any]]:
    """What the recipe makes of each conversation, in their order: `{original, curated, windows, trace, dropped}`.

    `curated` is null and `dropped` says why where it was removed; with windows, `curated` is the first one. Those
    without an id are shown as `preview:<index>`; ids may repeat.

    Raises:
        PreviewError: a conversation that ingest would quarantine.
    """
    raw = [_parse(value, index) for index, value in enumerate(conversations)]
    names = [row["id"] for row in raw]
    # the engine tells conversations apart by id, so a repeated one is called otherwise while it is in there
    apart = [{**row, "id": _apart(names, index)} for index, row in enumerate(raw)]
    made = curate_frame(pl.DataFrame(apart, RAW_SCHEMA, orient="row"), recipe, as_of=as_of)
    rows = {line[0]: group.to_dicts() for line, group in made.rows.group_by("line", maintain_order=True)}
    dropped = {row["line"]: row for row in made.dropped.to_dicts()}
    traces = {name[0]: group.to_dicts() for name, group in made.trace.group_by("conversation_id", maintain_order=True)}
    return [
        _show(row, rows.get(row["line"], []), dropped.get(row["line"]), traces.get(inside["id"], []))
        for row, inside in zip(raw, apart, strict=True)
    ]


def _parse(value: object, index: int) -> dict[str, Any]:
    try:
        orjson.dumps(value)
        json.dumps(value, allow_nan=False)  # which the other one writes as null
    except (TypeError, ValueError, RecursionError):
        raise PreviewError(
            index, "must be plain JSON: finite numbers of 64 bits, valid Unicode, not too deep"
        ) from None
    try:
        record = parse_conversation(value, {})
    except RecordError as error:
        raise PreviewError(index, str(error)) from None
    name = f"preview:{index}" if record.id is None else record.id
    return {"id": name, "line": index, "messages": record.messages, "user": record.user, "meta": record.meta}


def _apart(names: Sequence[str], index: int) -> str:
    name = names[index]
    while name in names[:index] or (name != names[index] and name in names):
        name += f"#{index}"
    return name


def _show(
    raw: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    dropped: Mapping[str, Any] | None,
    trace: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    windows = [show_row({**row, "id": f"{raw['id']}/{row['window']}" if row["window"] else raw["id"]}) for row in rows]
    return {
        "original": show_original(raw, raw["id"]),
        "curated": windows[0] if windows else None,
        "windows": windows if len(windows) > 1 else None,
        "trace": [
            {name: raw["id"] if name == "conversation_id" else row[name] for name in TRACE_SCHEMA} for row in trace
        ],
        "dropped": None if dropped is None else {"operator": dropped["operator"], "code": dropped["code"]},
    }
