"""Training of reward models: the trainer as a child, on the pairs of an uploaded file; the better model is published.

The run directory stays on this machine until the training has ended, so whoever takes it over here goes on from its
newest checkpoint; on another machine it begins anew, with the same pairs in the same order.
"""

import hashlib
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow.parquet as pq

from app.db import reading
from app.filters.artefacts import pack
from app.models import Json, LearnedFilter
from app.process import start
from app.settings import get_settings
from app.store import get_store
from app.training.folders import lay_out
from app.training.repository import model_files
from worker.curating import CannotBeDoneError, scratch
from worker.learning import MANY, begin, publish, run_child
from worker.leases import Lease
from worker.run_config import processes

POLL_S = 0.5
MIN_PAIRS = 100
"""Fewer held out are too few to tell models apart."""
LEAST_PAIRS = 50
"""With fewer, what is held out tells nothing."""


def learn_reward(lease: Lease, lost: threading.Event) -> None:
    """Trains a reward model from its file's pairs, once the file is processed, and publishes it."""
    begun = begin(lease)
    if begun is None:
        return
    row, segments = begun
    if not segments:
        raise CannotBeDoneError(f"file {row.file_id} has no pair to learn from")
    run_dir = get_settings().runs_dir / row.id
    config = _write_config(row, segments, run_dir)
    both_ways = _check_pairs(run_dir.with_suffix(".parquet"))
    _train(config, run_dir, lost)
    model, metrics = _best(run_dir)
    with scratch() as folder:
        blob = pack(model, folder)
    publish(lease, f"sha256:{blob.sha256}", blob.sha256, metrics, _warnings(metrics, both_ways))
    for path in get_settings().runs_dir.glob(f"{row.id}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _write_config(row: LearnedFilter, segments: list[str], run_dir: Path) -> Path:
    """Puts the pairs into one file, beside the settings of the run."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    pairs = run_dir.with_suffix(".parquet")
    paths = [get_store().path(sha256) for sha256 in segments]
    pl.scan_parquet(paths).select("messages", "chosen", "rejected").sink_parquet(pairs)
    config: Json = {**row.request["config"]}
    if named := config["model"].get("base"):
        with reading() as session:
            base_files = model_files(session, named)
        if base_files is not None:
            config["model"] = {**config["model"], "base": str(lay_out(base_files))}
    config["data"] = {**config["data"], "preferences": str(pairs)}
    config["run"] = {"nproc": processes(), **config.get("run", {})}
    path = run_dir.with_suffix(".request.json")
    path.write_text(json.dumps(config), "utf-8")
    return path


def _check_pairs(path: Path) -> int:
    """How many pairs of replies were judged both ways.

    Raises:
        CannotBeDoneError: too few pairs are there to learn from and to hold out.
    """
    ways: dict[bytes, set[bool]] = {}
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches():
            for record in batch.to_pylist():
                replies = sorted((record["chosen"], record["rejected"]))
                if replies[0] != replies[1]:
                    said = orjson.dumps([record["messages"], replies])
                    key = hashlib.blake2b(said, digest_size=16).digest()
                    ways.setdefault(key, set()).add(record["chosen"] == replies[0])
    if len(ways) < LEAST_PAIRS:
        raise CannotBeDoneError(f"a reward model needs at least {LEAST_PAIRS} different pairs, not {len(ways)}")
    return sum(len(judged) > 1 for judged in ways.values())


def _train(config: Path, run_dir: Path, lost: threading.Event) -> None:
    """Trains in a child and waits for it.

    Raises:
        CannotBeDoneError: the pairs or settings are no good, or the run failed.
        LeaseLostError: somebody else does it now, or it was cancelled; the child is gone.
    """
    log = run_dir.with_suffix(".log")
    log.unlink(missing_ok=True)
    child = start([sys.executable, "-m", "trainer", str(config), "--out", str(run_dir)], log=log)
    status = run_child(child, lost)
    if status != 0:
        told = [line for line in log.read_text("utf-8", "replace").splitlines() if line.startswith("Error: ")]
        if told:
            raise CannotBeDoneError(told[-1].removeprefix("Error: "))
        raise ChildProcessError(f"the training process ended with status {status}")


def _best(run_dir: Path) -> tuple[Path, dict[str, Any]]:
    """The model folder of the lower validation loss, and what was measured of it.

    Raises:
        CannotBeDoneError: nothing was measured, since no pair could be held out.
    """
    if not (run_dir / "evaluations.jsonl").exists():
        raise CannotBeDoneError("no pair could be held out to measure on: nearly all of them are the same")
    result = json.loads((run_dir / "result.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (run_dir / "evaluations.jsonl").read_text("utf-8").splitlines()]
    best = run_dir / "best"
    if not best.is_dir():
        return run_dir / "model", lines[-1]
    return best, next(line for line in lines if line["step"] == result["best"]["step"])


def _warnings(metrics: dict[str, Any], both_ways: int) -> list[str]:
    """What users should know before they trust the scores."""
    found = []
    if both_ways:
        found.append(f"{both_ways} pairs of replies were judged both ways: they teach nothing")
    if metrics["contradicted"] >= MANY:
        found.append(
            f"of {metrics['contradicted']:.1%} of the pairs held out it is sure that the rejected reply is the better "
            "one: either they are judged wrongly, or it has too few pairs to learn from"
        )
    low = metrics["accuracy_interval"][0]
    if metrics["pairs"] < MIN_PAIRS:
        found.append(f"{metrics['pairs']} pairs are held out: too few to tell models apart")
    if low <= 0.5:
        found.append(f"its accuracy, {metrics['accuracy']:.1%}, cannot be told from a coin's")
    if low <= metrics["longer_wins"]:
        found.append(
            f"its accuracy, {metrics['accuracy']:.1%}, is not clearly above that of taking the longer reply, "
            f"{metrics['longer_wins']:.1%}"
        )
    return found
