"""A whole run without a service: files are ingested and curated into a folder, in one process or in several."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import InputError
from curation.formats import SEGMENT_BYTES, Ingested, ingest, repeated_ids
from curation.processes import Spread
from curation.recipe import Recipe
from curation.run import Result, SegmentResult, StageResult, close_version, curate_segment, decide, resume_segment
from curation.segments import ARROW, QUARANTINE_SCHEMA, file_sha256, write_json, write_parquet

INGEST = ".ingest-"
"""Beginning of the names of folders that hold raw segments and stages while a run lasts."""
Job = tuple[Callable[..., Result], tuple[Any, ...], dict[str, Any]]
"""A function, its arguments and its settings, as another process can be sent them."""


def curate(
    inputs: Sequence[Path],
    out: Path,
    *,
    recipe: Recipe,
    spread: Spread = map,
    as_of: date | None = None,
    speakers: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    on_ingest: Callable[[int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Ingests and curates files into `out`, without a service; returns the manifest.

    `spread` may be that of `processes`. `speakers` and `columns` are as for an upload. `on_ingest` is told how many
    files are read, `on_progress` how many segments are curated, of how many.

    Raises:
        InputError: a file cannot be read at all.
    """
    as_of = as_of or datetime.now(UTC).date()
    shas = [file_sha256(path) for path in inputs]
    settings = {"speakers": speakers, "columns": columns, "segment_bytes": segment_bytes, "suffix": ARROW}
    try:
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
    places = [{"ordinal": ordinal, "file": file, "as_of": as_of} for ordinal, (file, _) in enumerate(segments)]
    work = out / f"{INGEST}stages"
    told = _told(spread, on_progress, len(segments) * (len(recipe.barriers) + 1))
    results = told(
        (curate_segment, (path, recipe, work if recipe.barriers else out), {**place, "ids": ids})
        for (_, path), ids, place in zip(segments, renames, places, strict=True)
    )
    for stage in range(1, len(recipe.barriers) + 1):
        results = told(_over_barrier(results, recipe, work, out, stage, places))
    finished = [result for result in results if isinstance(result, SegmentResult)]
    warnings = [
        f"{path.name}: {warning}" for path, one in zip(inputs, ingested, strict=True) for warning in one.warnings
    ]
    manifest = close_version(finished, recipe, out, as_of=as_of, warnings=warnings)
    _report(out, inputs, ingested, manifest)
    return manifest


def _told(
    spread: Spread, on_progress: Callable[[int, int], None] | None, total: int
) -> Callable[[Iterable[Job]], list[Result]]:
    """Spreads jobs and tells, over all calls together, how many of `total` are done."""
    done = 0

    def run(jobs: Iterable[Job]) -> list[Result]:
        nonlocal done
        made = []
        for result in spread(_run_job, jobs):
            made.append(result)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        return made

    return run


def _over_barrier(
    results: Sequence[Result], recipe: Recipe, work: Path, out: Path, stage: int, places: Sequence[dict[str, Any]]
) -> list[Job]:
    """Decides at a barrier and says what is to be done with each segment after it."""
    waiting = [result for result in results if isinstance(result, StageResult)]
    work.mkdir(exist_ok=True)
    decisions = decide(waiting, lambda part: work / part.path, recipe, work, stage=stage)
    folder = out if stage == len(recipe.barriers) else work
    return [
        (
            resume_segment,
            ({name: work / part.path for name, part in one.passage.items()}, work / decided.path, recipe, folder),
            {**place, "stage": stage},
        )
        for one, decided, place in zip(waiting, decisions, places, strict=True)
    ]


def _run_job(job: Job) -> Result:
    function, args, settings = job
    return function(*args, **settings)


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
