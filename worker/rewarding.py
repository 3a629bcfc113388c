"""Training of reward models: the trainer as a child, on the pairs of an uploaded file; the better model is published.

The run directory stays on this machine until the training has ended, so whoever takes it over here goes on from its
newest checkpoint; on another machine it begins anew, with the same pairs in the same order.
"""

import json
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import select

from app.crash import crash_point
from app.db import writing
from app.filters.artefacts import pack
from app.models import File, Json, LearnedFilter, RawSegment
from app.process import kill_group, start
from app.settings import get_settings
from app.store import get_store
from app.training.folders import lay_out
from app.training.repository import model_files
from worker.curating import CannotBeDoneError, scratch
from worker.learning import wait_for_file
from worker.leases import Lease, LeaseLostError, finish
from worker.run_config import processes

POLL_S = 0.5
MIN_PAIRS = 100
"""Fewer held out are too few to tell models apart."""


def learn_reward(lease: Lease, lost: threading.Event) -> None:
    """Trains a reward model from its file's pairs, once the file is processed, and publishes it."""
    with writing() as session:
        row = session.get_one(LearnedFilter, lease.subject)
        file = session.get_one(File, row.file_id)
        if file.status == "error":
            raise CannotBeDoneError(f"file {file.id} could not be read: {file.status_details}")
        if file.status == "processed":
            row.status = "running"
        segments = session.scalars(
            select(RawSegment.sha256).where(RawSegment.file_id == file.id).order_by(RawSegment.ordinal)
        ).all()
        named = row.request["config"]["model"].get("base")
        base_files = model_files(session, named) if named else None
    if file.status != "processed":
        wait_for_file(lease, file.id)
        return
    if not segments:
        raise CannotBeDoneError(f"file {file.id} has no pair to learn from")
    run_dir = get_settings().runs_dir / row.id
    config = _write_config(row, list(segments), base_files, run_dir)
    _train(config, run_dir, lost)
    model, metrics = _best(run_dir)
    with scratch() as folder:
        blob = pack(model, folder)
    crash_point("learn_artefact_stored")
    with writing() as session:
        digest = f"sha256:{blob.sha256}"
        finish(session, lease, {"digest": digest})
        row = session.get_one(LearnedFilter, lease.subject)
        row.status, row.digest, row.artefact_sha256 = "succeeded", digest, blob.sha256
        row.metrics, row.warnings, row.finished_at = metrics, _warnings(metrics), time.time()
        crash_point("learn_before_commit")
    crash_point("learn_committed")
    for path in get_settings().runs_dir.glob(f"{row.id}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _write_config(row: LearnedFilter, segments: list[str], base_files: dict[str, str] | None, run_dir: Path) -> Path:
    """Puts the pairs into one file, beside the settings of the run."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    pairs = run_dir.with_suffix(".parquet")
    paths = [get_store().path(sha256) for sha256 in segments]
    pl.scan_parquet(paths).select("messages", "chosen", "rejected").sink_parquet(pairs)
    config: Json = {**row.request["config"]}
    if base_files is not None:
        config["model"] = {**config["model"], "base": str(lay_out(base_files))}
    config["data"] = {**config["data"], "preferences": str(pairs)}
    config["run"] = {"nproc": processes(), **config.get("run", {})}
    path = run_dir.with_suffix(".request.json")
    path.write_text(json.dumps(config), "utf-8")
    return path


def _train(config: Path, run_dir: Path, lost: threading.Event) -> None:
    """Trains in a child and waits for it.

    Raises:
        CannotBeDoneError: the pairs or settings are no good, or the run failed.
        LeaseLostError: somebody else does it now, or it was cancelled; the child is gone.
    """
    log = run_dir.with_suffix(".log")
    log.unlink(missing_ok=True)
    child = start([sys.executable, "-m", "trainer", str(config), "--out", str(run_dir)], log=log)
    try:
        while child.poll() is None:
            if lost.wait(POLL_S):
                raise LeaseLostError("the training was cancelled or taken over")
    finally:
        kill_group(child)
        status = child.wait()
    if status != 0:
        told = [line for line in log.read_text("utf-8", "replace").splitlines() if line.startswith("Error: ")]
        if told:
            raise CannotBeDoneError(told[-1].removeprefix("Error: "))
        raise ChildProcessError(f"the training process ended with status {status}")


def _best(run_dir: Path) -> tuple[Path, dict[str, Any]]:
    """The model folder of the lower validation loss, and what was measured of it."""
    result = json.loads((run_dir / "result.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (run_dir / "evaluations.jsonl").read_text("utf-8").splitlines()]
    best = run_dir / "best"
    if not best.is_dir():
        return run_dir / "model", lines[-1]
    return best, next(line for line in lines if line["step"] == result["best"]["step"])


def _warnings(metrics: dict[str, Any]) -> list[str]:
    """What users should know before they trust the scores."""
    found = []
    low = metrics["accuracy_interval"][0]
    if metrics["pairs"] < MIN_PAIRS:
        found.append(f"{metrics['pairs']} pairs are held out: too few to tell models apart")
    if low <= 0.5:
        found.append("its accuracy cannot be told from a coin's")
    if low <= metrics["longer_wins"]:
        found.append("its accuracy is not clearly above that of taking the longer reply")
    return found
