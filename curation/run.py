"""Runs a recipe: one raw segment at a time, then the closing of a version; and both together without a service.

Memory is bounded by one segment. The result of a segment depends on its content, the recipe and `as_of` only.
"""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from curation.errors import InputError
from curation.formats import SEGMENT_BYTES, Ingested, ingest, repeated_ids
from curation.formats.cuts import Spread
from curation.mixer import STEP_TRACE, Outcome, run_step, with_context
from curation.operator import EDITS, Dialogues
from curation.recipe import Recipe
from curation.rows import curated_rows
from curation.segments import (
    DROPPED_SCHEMA,
    QUARANTINE_SCHEMA,
    TRACE_SCHEMA,
    USER_FIELDS,
    digest_rows,
    file_sha256,
    write_json,
    write_parquet,
)
from curation.statistics import count_tags

INGEST = ".ingest-"
"""Beginning of the names of folders that hold raw segments while a run lasts."""
MANIFEST_FORMAT = "talkmill.version/1"
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


def curate(
    inputs: Sequence[Path],
    out: Path,
    *,
    recipe: Recipe,
    workers: int = 1,
    as_of: date | None = None,
    speakers: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    on_ingest: Callable[[int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Ingests and curates files into `out`, without a service; returns the manifest.

    `speakers` and `columns` are as for an upload. `on_ingest` is told how many files are read, `on_progress` how many
    segments are curated, of how many.

    Raises:
        InputError: a file cannot be read at all.
    """
    as_of = as_of or datetime.now(UTC).date()
    shas = [file_sha256(path) for path in inputs]
    settings = {"speakers": speakers, "columns": columns, "segment_bytes": segment_bytes}
    try:
        with _processes(workers) as spread:
            ingested = []
            for index, (path, sha256) in enumerate(zip(inputs, shas, strict=True)):
                folder = out / f"{INGEST}{index}"
                ingested.append(_ingest_named(path, folder, {**settings, "sha256": sha256, "spread": spread}))
                if on_ingest is not None:
                    on_ingest(len(ingested))
            return _curate_ingested(inputs, shas, ingested, out, recipe, spread, as_of, on_progress)
    finally:
        for folder in out.glob(f"{INGEST}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _curate_ingested(
    inputs: Sequence[Path],
    shas: Sequence[str],
    ingested: Sequence[Ingested],
    out: Path,
    recipe: Recipe,
    spread: Spread,
    as_of: date,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    segments = [(index, segment.path) for index, one in enumerate(ingested) for segment in one.segments]
    renames = repeated_ids([(path, shas[index]) for index, path in segments])
    jobs = [
        (path, recipe, out, ordinal, index, as_of, ids)
        for ordinal, ((index, path), ids) in enumerate(zip(segments, renames, strict=True))
    ]
    results = []
    for result in spread(_run_job, jobs):
        results.append(result)
        if on_progress is not None:
            on_progress(len(results), len(jobs))
    warnings = [
        f"{path.name}: {warning}" for path, one in zip(inputs, ingested, strict=True) for warning in one.warnings
    ]
    manifest = close_version(results, recipe, out, as_of=as_of, warnings=warnings)
    _report(out, inputs, ingested, manifest)
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


COUNTED = (
    "conversations_in",
    "conversations_kept",
    "conversations_dropped",
    "rows",
    "turns_in",
    "turns_kept",
    "turns_edited",
)


@contextmanager
def _processes(workers: int) -> Iterator[Spread]:
    """Spreads jobs over processes, which start with the first jobs that are several; results come in order."""
    spawn = multiprocessing.get_context("spawn")  # polars does not survive a fork
    with ExitStack() as stack:

        @lru_cache(maxsize=1)
        def pool() -> ProcessPoolExecutor:
            made = stack.enter_context(ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent))
            stack.callback(made.shutdown, wait=False, cancel_futures=True)
            return made

        def spread(function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
            listed = list(jobs)
            return pool().map(function, listed) if workers > 1 and len(listed) > 1 else map(function, listed)

        yield spread


def _end_with_parent() -> None:
    """A pool's process waits for work for ever, even when whoever would send it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_job(job: tuple[Any, ...]) -> SegmentResult:
    raw, recipe, out, ordinal, file, as_of, ids = job
    return curate_segment(raw, recipe, out, ordinal=ordinal, file=file, as_of=as_of, ids=ids)


def _ingest_named(path: Path, out: Path, settings: dict[str, Any]) -> Ingested:
    shutil.rmtree(out, ignore_errors=True)  # of a run that was killed
    try:
        return ingest(path, out, **settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _report(out: Path, inputs: Sequence[Path], ingested: Sequence[Ingested], manifest: dict[str, Any]) -> None:
    """Joins the files' quarantines and tells the counts."""
    quarantine = pl.concat(
        [
            pl.read_parquet(one.quarantine).with_columns(file=pl.lit(str(path)))
            for path, one in zip(inputs, ingested, strict=True)
        ]
    )
    write_parquet(quarantine.select("file", *QUARANTINE_SCHEMA.names()), out / "quarantine.parquet")
    files = [
        {"file": str(path), "format": one.format, "conversations": one.conversations, "turns": one.turns,
         "quarantined": one.quarantined}
        for path, one in zip(inputs, ingested, strict=True)
    ]  # fmt: skip
    write_json({"counts": manifest["counts"], "warnings": manifest["warnings"], "files": files}, out / "report.json")


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
