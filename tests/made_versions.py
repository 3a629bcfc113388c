"""Small versions made by the engine itself, from conversations given as lists of (role, content)."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from curation.browse import Folder
from curation.recipe import parse_recipe
from curation.run import close_version, curate_segment
from curation.segments import RAW_SCHEMA, write_parquet

AS_OF = date(2026, 11, 1)
STRUCTURE = {"operators": [{"kind": "structure_dialogue"}]}


def conversation(name: str, *turns: tuple[str, ...], **extra: Any) -> dict[str, Any]:
    """A conversation of (role, content) or (role, content, weight) turns, with `user` and `meta`."""
    messages = [dict(zip(("role", "content", "weight"), turn, strict=False)) for turn in turns]
    return {"id": name, "messages": messages, **extra}


def made_version(
    folder: Path,
    conversations: Sequence[Mapping[str, Any]],
    recipe: Mapping[str, Any] = STRUCTURE,
    segment_rows: int = 100,
) -> tuple[Folder, dict[str, Any]]:
    """The version's folder and its manifest."""
    parsed = parse_recipe(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    raw, results = [], []
    for ordinal, start in enumerate(range(0, len(conversations), segment_rows)):
        raw.append(folder / f"raw/{ordinal}.parquet")
        rows = [_raw(one, start + line) for line, one in enumerate(conversations[start : start + segment_rows], 1)]
        write_parquet(pl.DataFrame(rows, RAW_SCHEMA, orient="row"), raw[-1])
        results.append(curate_segment(raw[-1], parsed, folder, ordinal=ordinal, file=0, as_of=AS_OF))
    manifest = close_version(results, parsed, folder, as_of=AS_OF)
    segments, dropped, trace = (
        [folder / part["path"] for part in manifest[name]] for name in ("segments", "dropped", "trace")
    )
    return Folder(segments, dropped, trace, raw, [op.kind for op, _, _ in parsed.steps]), manifest


def _raw(value: Mapping[str, Any], line: int) -> dict[str, Any]:
    user, meta = (orjson.dumps(value[name]).decode() if name in value else None for name in ("user", "meta"))
    messages = [{"weight": None, **message} for message in value["messages"]]
    return {"id": value["id"], "line": line, "messages": messages, "user": user, "meta": meta}
