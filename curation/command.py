"""A whole run without a service: files are ingested and curated into a folder, in one process or in several."""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import InputError
from curation.formats import SEGMENT_BYTES, Ingested, ingest, repeated_ids
from curation.formats.cuts import Spread
from curation.recipe import Recipe
from curation.run import SegmentResult, close_version, curate_segment
from curation.segments import QUARANTINE_SCHEMA, file_sha256, write_json, write_parquet

INGEST = ".ingest-"
"""Beginning of the names of folders that hold raw segments while a run lasts."""


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
