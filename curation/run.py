"""Runs a recipe: one raw segment at a time, then the closing of a version.

Memory is bounded by one segment. The result of a segment depends on its content, the recipe and `as_of` only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from curation.mixer import STEP_TRACE, Outcome, run_step, with_context
from curation.operator import EDITS, Dialogues
from curation.recipe import Recipe
from curation.rows import curated_rows
from curation.segments import (
    DROPPED_SCHEMA,
    TRACE_SCHEMA,
    USER_FIELDS,
    digest_rows,
    file_sha256,
    write_json,
    write_parquet,
)
from curation.statistics import count_tags

MANIFEST_FORMAT = "talkmill.version/1"
COUNTED = (
    "conversations_in",
    "conversations_kept",
    "conversations_dropped",
    "rows",
    "turns_in",
    "turns_kept",
    "turns_edited",
)
NOTHING_KEPT = "the version keeps no conversation: see the dropped ones and why"


@dataclass(frozen=True)
class Part:
    """A written file of a version, relative to its folder."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Curated:
    """What curating conversations gave: frames of SEGMENT_SCHEMA, TRACE_SCHEMA and DROPPED_SCHEMA, and the counts."""

    rows: pl.DataFrame
    trace: pl.DataFrame
    dropped: pl.DataFrame
    counts: dict[str, Any]


@dataclass(frozen=True)
class SegmentResult:
    """What curating one raw segment gave."""

    segment: Part
    trace: Part
    dropped: Part
    counts: dict[str, Any]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SegmentResult":
        """The inverse of `dataclasses.asdict`."""
        return cls(Part(**value["segment"]), Part(**value["trace"]), Part(**value["dropped"]), value["counts"])


def curate_segment(
    raw: Path,
    recipe: Recipe,
    out: Path,
    *,
    ordinal: int,
    file: int,
    as_of: date,
    ids: Mapping[int, str] | None = None,
) -> SegmentResult:
    """Curates one raw segment into `out/segments`, `out/trace` and `out/dropped`.

    `ordinal` is the segment's place in the version, `file` its file's; `ids` renames conversations by line.
    """
    made = curate_frame(_read_raw(raw, ids or {}), recipe, as_of=as_of, file=file)
    name = f"{ordinal:05d}.parquet"
    return SegmentResult(
        segment=_write(made.rows, out, f"segments/{name}"),
        trace=_write(made.trace, out, f"trace/{name}"),
        dropped=_write(made.dropped, out, f"dropped/{name}"),
        counts=made.counts,
    )


def curate_frame(raw: pl.DataFrame, recipe: Recipe, *, as_of: date, file: int = 0) -> Curated:
    """Curates conversations in memory: rows of RAW_SCHEMA whose ids differ."""
    loaded = dialogues = _load(raw)
    outcomes: list[Outcome] = []
    for step in recipe.bind(as_of):
        outcomes.append(run_step(dialogues, step))
        dialogues = outcomes[-1].dialogues
    windows = outcomes[-1].windows if outcomes else {}
    tags = _users(loaded.conversations, [outcome.tags for outcome in outcomes])
    rows = curated_rows(dialogues, windows, tags, file)
    trace = _trace(loaded.conversations, outcomes)
    dropped = _dropped(loaded.conversations, outcomes, recipe, file)
    return Curated(rows, trace, dropped, _counts(loaded, rows, trace, dropped, recipe))


def close_version(
    results: Sequence[SegmentResult],
    recipe: Recipe,
    folder: Path,
    *,
    as_of: date | None,
    warnings: Iterable[str] = (),
) -> dict[str, Any]:
    """Writes the tag counts and the manifest of a version whose segments lie in `folder`; returns the manifest."""
    tags = _write(count_tags(folder / result.segment.path for result in results), folder, "tags.parquet")
    counts = sum_counts([result.counts for result in results], [op.kind for op, _, _ in recipe.steps])
    all_warnings = list(dict.fromkeys([*warnings, *recipe.warnings]))
    if counts["conversations_kept"] == 0:
        all_warnings.append(NOTHING_KEPT)
    manifest = {
        "format": MANIFEST_FORMAT,
        "digest": digest_rows(folder / result.segment.path for result in results),
        "recipe": recipe.resolved,
        "recipe_fingerprint": recipe.fingerprint,
        "as_of": None if as_of is None else as_of.isoformat(),
        "bounds": recipe.bounds,
        "counts": counts,
        "warnings": all_warnings,
        "software": {"talkmill": version("talkmill")},
        "segments": [asdict(result.segment) for result in results],
        "trace": [asdict(result.trace) for result in results],
        "dropped": [asdict(result.dropped) for result in results],
        "tags": asdict(tags),
    }
    write_json(manifest, folder / "manifest.json")
    return manifest


def sum_counts(counts: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> dict[str, Any]:
    """Adds up the counts of segments; each of `kinds` is there even if it did nothing."""
    total: dict[str, Any] = {name: sum(one[name] for one in counts) for name in COUNTED}
    by_operator: dict[str, Any] = {}
    for kind in kinds:
        mine = [one["by_operator"][kind] for one in counts]
        codes = sorted({code for one in mine for code in one["codes"]})
        by_operator[kind] = {
            **{name: sum(one[name] for one in mine) for name in ("edited", "dropped_turns", "dropped_conversations")},
            "codes": {code: sum(one["codes"].get(code, 0) for one in mine) for code in codes},
        }
    return {**total, "by_operator": by_operator}


def _read_raw(raw: Path, ids: Mapping[int, str]) -> pl.DataFrame:
    frame = pl.read_parquet(raw)
    if not ids:
        return frame
    new = pl.col("line").replace_strict(dict(ids), default=None, return_dtype=pl.String)
    return frame.with_columns(id=pl.coalesce(new, "id"))


def _load(raw: pl.DataFrame) -> Dialogues:
    frame = raw.with_row_index("conversation")
    turns = (
        frame.select("conversation", pl.col("messages"))
        .explode("messages")
        .select(
            "conversation",
            pl.int_range(pl.len(), dtype=pl.Int64).over("conversation").alias("turn"),
            pl.col("messages").struct.field("role"),
            pl.col("messages").struct.field("content").alias("text"),
            pl.col("messages").struct.field("weight"),
        )
    )
    return Dialogues(frame.select("conversation", "id", "line", "user", "meta"), with_context(turns))


def _users(conversations: pl.DataFrame, tags: list[pl.DataFrame]) -> dict[int, dict[str, Any]]:
    """Each conversation's user, as tagged: the metadata's id and the tags."""
    users: dict[int, dict[str, Any]] = {}
    for conversation, text in conversations.select("conversation", "user").drop_nulls().iter_rows():
        user_id = orjson.loads(text).get("id")
        if isinstance(user_id, str | int) and not isinstance(user_id, bool):
            users[conversation] = {"id": str(user_id)}
    for frame in tags:
        for conversation, field, value in frame.select("conversation", "field", "value").iter_rows():
            user = users.setdefault(conversation, {})
            if field == "crowd":
                user["crowd"] = sorted({*user.get("crowd", ()), value})
            elif field in USER_FIELDS:
                user[field] = int(value) if field == "age" else value
    return users


def _trace(conversations: pl.DataFrame, outcomes: list[Outcome]) -> pl.DataFrame:
    """All steps' trace rows, by conversation, then step, then turn."""
    steps = [outcome.trace.sort("conversation", "turn", "start", maintain_order=True) for outcome in outcomes]
    joined = pl.concat(steps) if steps else pl.DataFrame(schema=STEP_TRACE)
    names = conversations.select("conversation", pl.col("id").alias("conversation_id"))
    ordered = joined.sort("conversation", maintain_order=True).join(names, on="conversation", maintain_order="left")
    return ordered.select(TRACE_SCHEMA.names())


def _dropped(conversations: pl.DataFrame, outcomes: list[Outcome], recipe: Recipe, file: int) -> pl.DataFrame:
    rows = [
        {"conversation": conversation, "operator": op.kind, "code": code, "file": file}
        for outcome, (op, _, _) in zip(outcomes, recipe.steps, strict=True)
        for conversation, code in outcome.dropped.items()
    ]
    schema = {"conversation": pl.UInt32, "operator": pl.String, "code": pl.String, "file": pl.Int64}
    frame = pl.DataFrame(rows, schema, orient="row").sort("conversation")
    names = conversations.select("conversation", pl.col("id").alias("conversation_id"), "line")
    return frame.join(names, on="conversation", maintain_order="left").select(DROPPED_SCHEMA.names())


def _counts(
    loaded: Dialogues, rows: pl.DataFrame, trace: pl.DataFrame, dropped: pl.DataFrame, recipe: Recipe
) -> dict[str, Any]:
    edits = trace.filter(pl.col("action").is_in(EDITS))
    by_operator = {}
    for op, _, _ in recipe.steps:
        mine = trace.filter(pl.col("operator") == op.kind)
        changed = edits.filter(pl.col("operator") == op.kind)
        codes = mine.group_by("code").len().sort("code")
        by_operator[op.kind] = {
            "edited": changed.select("conversation_id", "turn").n_unique(),
            "dropped_turns": mine.filter(pl.col("action") == "drop_turn").height,
            "dropped_conversations": dropped.filter(pl.col("operator") == op.kind).height,
            "codes": dict(codes.iter_rows()),
        }
    return {
        "conversations_in": loaded.conversations.height,
        "conversations_kept": loaded.conversations.height - dropped.height,
        "conversations_dropped": dropped.height,
        "rows": rows.height,
        "turns_in": loaded.turns.height,
        "turns_kept": int(rows["turns"].sum()),
        "turns_edited": edits.select("conversation_id", "turn").n_unique(),
        "by_operator": by_operator,
    }


def _write(frame: pl.DataFrame, out: Path, name: str) -> Part:
    path = out / name
    write_parquet(frame, path)
    return Part(name, file_sha256(path), path.stat().st_size, frame.height)
