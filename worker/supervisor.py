"""Runs a training job: the trainer as a child process, its run directory mirrored into the database.

The trainer knows nothing of the service. The supervisor writes its config, follows the files it writes
(metrics, events, checkpoints), passes on what the user wants, and publishes the model folder at the end. When the
worker stops or loses its lease, the run directory stays, and whoever takes the job over resumes it.
"""

import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import reading, writing
from app.models import Job, JobCheckpoint, JobEvent, JobFile, JobMetric, Json, Version, new_id
from app.process import kill_group, start, stop
from app.settings import get_settings
from app.store import get_store
from app.training.folders import lay_out
from app.training.repository import model_files
from worker.celery_app import stopping
from worker.curating import CannotBeDoneError
from worker.leases import Lease, LeaseLostError, finish, give_back

log = logging.getLogger(__name__)

POLL_S = 1.0
GRACE_S = 12.0
"""How long a trainer may take to write a checkpoint when it is told to stop."""
EXIT_INTERRUPTED = 75


def train(lease: Lease, lost: threading.Event) -> None:
    """Trains until the run ends, the user wants it to end, the worker stops, or the lease is lost."""
    with writing() as session:
        job = session.get_one(Job, lease.subject)
        version = session.get_one(Version, job.version_id)
        named = job.config["model"].get("base")
        base_files = model_files(session, named) if named else None
        if job.status in ("succeeded", "failed", "cancelled"):
            finish(session, lease, {"status": job.status})
            return
        job.status = "running"
    run_dir = get_settings().runs_dir / job.id
    config_path = _write_config(job, _materialise(version), base_files)
    crash_point("train_config_written")
    mirror = Mirror(job.id, run_dir)
    mirror.start_over()
    trainer = start(
        [sys.executable, "-m", "trainer", str(config_path), "--out", str(run_dir)],
        on_parent_death=signal.SIGTERM,
        log=run_dir.with_suffix(".log"),
    )
    try:
        wanted = _follow(trainer, mirror, lost)
        mirror.copy()
    finally:
        kill_group(trainer)
    if lost.is_set():
        raise LeaseLostError(f"job {job.id} belongs to another worker")
    _conclude(lease, job, run_dir, trainer.wait(), wanted)


def fail_job(session: Session, lease: Lease, error: str) -> None:
    """The job cannot be trained."""
    job = session.get(Job, lease.subject)
    if job is not None and job.status not in ("succeeded", "cancelled"):
        job.status = "failed"
        job.error = {"code": "training_failed", "message": error, "param": None}
        job.finished_at = time.time()
        session.add(JobEvent(id=new_id("ftevent"), job_id=job.id, level="error", message=error))


def _materialise(version: Version) -> Path:
    """Lays the version's files out as a folder on this machine; returns its manifest's path."""
    folder = get_settings().work_dir.with_name("versions") / version.id
    manifest_path = folder / "manifest.json"
    if not manifest_path.exists():
        assert version.manifest_sha256 is not None
        store = get_store()
        manifest = orjson.loads(store.path(version.manifest_sha256).read_bytes())
        for segment in manifest["segments"]:
            store.materialise(segment["sha256"], folder / segment["path"])
        store.materialise(version.manifest_sha256, manifest_path)
    return manifest_path


def _write_config(job: Job, manifest: Path, base_files: dict[str, str] | None) -> Path:
    """Completes the job's settings by what this machine decides: where data and base lie, how many processes."""
    config: Json = {**job.config}
    if base_files is not None:
        config["model"] = {**config["model"], "base": str(lay_out(base_files))}
    config["data"] = {**config.get("data", {}), "version": str(manifest), "cache_dir": str(_cache_dir())}
    config["run"] = {"nproc": get_settings().train_nproc, **config.get("run", {})}
    path = get_settings().runs_dir / f"{job.id}.request.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(config))
    return path


def _without_paths(config: Json) -> Json:
    data = {key: value for key, value in config["data"].items() if key not in ("version", "validation", "cache_dir")}
    model = {key: value for key, value in config["model"].items() if key != "base"}
    return {**config, "data": data, "model": model}


def _cache_dir() -> Path:
    return get_settings().work_dir.with_name("vectors")


def _follow(trainer: "subprocess.Popen[bytes]", mirror: "Mirror", lost: threading.Event) -> str | None:
    """Waits for the trainer's end, or brings it about; returns what the user wanted, or `stopping`."""
    while trainer.poll() is None:
        mirror.copy()
        wanted = "stopping" if stopping.is_set() else mirror.wanted()
        if lost.is_set():
            kill_group(trainer)
            return None
        if wanted is not None:
            stop(trainer, grace_s=GRACE_S)
            return wanted
        lost.wait(POLL_S)
    return None


def _conclude(lease: Lease, job: Job, run_dir: Path, status: int, wanted: str | None) -> None:
    if wanted == "stopping" and status != 0:
        give_back(lease, nudge=True)
        return
    if status == 0:
        _publish(lease, job, run_dir)
    elif wanted == "cancel":
        with writing() as session:
            finish(session, lease, {"status": "cancelled"})
            job = session.get_one(Job, job.id)
            job.status = "cancelled"
            job.finished_at = time.time()
            session.add(JobEvent(id=new_id("ftevent"), job_id=job.id, message="Job cancelled."))
    elif status == EXIT_INTERRUPTED:
        give_back(lease, nudge=True)
    else:
        raise CannotBeDoneError(_reason(run_dir, status))


def _publish(lease: Lease, job: Job, run_dir: Path) -> None:
    """Stores the model folder and lets the job succeed."""
    store = get_store()
    folder = run_dir / "model"
    blobs = {
        str(path.relative_to(folder)): store.put_file(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    crash_point("train_model_stored")
    result = orjson.loads((run_dir / "result.json").read_bytes())
    with writing() as session:
        finish(session, lease, {"status": "succeeded"})
        job = session.get_one(Job, job.id)
        session.execute(delete(JobFile).where(JobFile.job_id == job.id))
        for name, blob in blobs.items():
            session.add(JobFile(job_id=job.id, name=name, sha256=blob.sha256, bytes=blob.bytes))
        job.status = "succeeded"
        job.fine_tuned_model = f"ft:{job.model}:{job.request.get('suffix') or 'talkmill'}:{job.id[-8:]}"
        job.trained_tokens = result.get("tokens")
        job.finished_at = time.time()
    crash_point("train_committed")


def _reason(run_dir: Path, status: int) -> str:
    """Why the trainer ended with `status`, in a sentence for the user."""
    result = run_dir / "result.json"
    if result.exists():
        error = orjson.loads(result.read_bytes()).get("error")
        if error:
            return str(error)
    log_path = run_dir.with_suffix(".log")
    if status == 2 and log_path.exists():
        lines = log_path.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "the trainer refused its config"
    return f"the trainer ended with {signal.Signals(-status).name if status < 0 else f'exit status {status}'}"


class Mirror:
    """Copies what a run directory gains into the database, in batches."""

    def __init__(self, job_id: str, run_dir: Path) -> None:
        self._job_id = job_id
        self._run_dir = run_dir
        self._metrics = Tail(run_dir / "metrics.jsonl")
        self._events = Tail(run_dir / "events.jsonl")
        self._checkpoints: set[str] = set()
        self._num_events = 0
        self._steps: int | None = None
        self._described = False

    def start_over(self) -> None:
        """Forgets what an earlier owner mirrored: the run directory tells it all again."""
        with writing() as session:
            session.execute(delete(JobMetric).where(JobMetric.job_id == self._job_id))
            session.execute(delete(JobCheckpoint).where(JobCheckpoint.job_id == self._job_id))
            mirrored = JobEvent.id.like(f"{self._event_prefix}%")
            session.execute(delete(JobEvent).where(JobEvent.job_id == self._job_id, mirrored))

    def wanted(self) -> str | None:
        """What the user asks of the job."""
        with reading() as session:
            return session.scalar(select(Job.wanted).where(Job.id == self._job_id))

    def copy(self) -> None:
        """Copies what is new; writes nothing when nothing is."""
        metrics, events = self._metrics.new_lines(), self._events.new_lines()
        checkpoints = [path for path in sorted(self._run_dir.glob("checkpoints/step-*")) if self._is_new(path)]
        if not (metrics or events or checkpoints):
            return
        with writing() as session:
            for line in metrics:
                session.merge(JobMetric(job_id=self._job_id, step=line["step"], data=line))
            for line in events:
                self._add_event(session, line)
            for path in checkpoints:
                self._add_checkpoint(session, path)
            job = session.get_one(Job, self._job_id)
            self._describe(job)
            if checkpoints:
                crash_point("train_checkpoint_seen")
            if metrics:
                last = metrics[-1]
                job.progress = {
                    "step": last["step"],
                    "steps": last.get("steps", job.progress.get("steps")),
                    "tokens": last.get("total_tokens", 0),
                    "tokens_per_second": last["tokens_per_second"],
                }

    @property
    def _event_prefix(self) -> str:
        return f"ftevent-{self._job_id.removeprefix('ftjob-')}-"

    def _is_new(self, checkpoint: Path) -> bool:
        return checkpoint.name not in self._checkpoints and (checkpoint / "quality.json").exists()

    def _add_event(self, session: Session, line: Json) -> None:
        self._num_events += 1
        session.add(
            JobEvent(
                id=f"{self._event_prefix}{self._num_events}",
                job_id=self._job_id,
                level=line.get("level", "info"),
                message=line["message"],
                data=line.get("data") or {},
                created_at=line["created_at"],
            )
        )

    def _add_checkpoint(self, session: Session, path: Path) -> None:
        self._checkpoints.add(path.name)
        quality = orjson.loads((path / "quality.json").read_bytes())
        step = int(path.name.removeprefix("step-"))
        session.add(JobCheckpoint(id=new_id("ftckpt"), job_id=self._job_id, step=step, metrics=quality))

    def _describe(self, job: Job) -> None:
        """The resolved config and the architecture, once the trainer has written them."""
        config, architecture = self._run_dir / "config.json", self._run_dir / "architecture.json"
        if self._described or not (config.exists() and architecture.exists()):
            return
        job.resolved = _without_paths(orjson.loads(config.read_bytes()))
        job.architecture = orjson.loads(architecture.read_bytes())
        self._described = True


class Tail:
    """The complete lines that a JSONL file gained since the last look; starts over when the file was cut back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[dict[str, Any]]:
        """What came since the last call; a line that is still being written waits for the next."""
        if not self._path.exists():
            return []
        if self._path.stat().st_size < self._offset:
            self._offset = 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [orjson.loads(line) for line in complete.splitlines()]
