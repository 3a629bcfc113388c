"""Runs a training job: the trainer as a child process, its run directory mirrored into database and store.

The trainer knows nothing of the service. The supervisor writes its config, follows the files it writes (metrics,
events, checkpoints), passes on what the user wants, and publishes the model folder at the end. When the worker stops,
dies or loses its lease, whoever takes the job over goes on from the run directory, on another machine from what was
uploaded.
"""

import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import reading, writing
from app.models import FINAL, Job, JobCheckpoint, JobEvent, JobFile, Json, Version
from app.process import kill_group, start, stop
from app.settings import get_settings
from app.store import get_store
from app.training.folders import lay_out
from app.training.repository import model_files
from worker import run_folder
from worker.celery_app import stopping
from worker.curating import CannotBeDoneError
from worker.leases import Lease, LeaseLostError, check_held, finish, give_back
from worker.mirror import Mirror
from worker.uploads import Uploads

log = logging.getLogger(__name__)

POLL_S = 1.0
GRACE_S = 8.0
"""How long a trainer may take to write a checkpoint when it is told to stop; uploading it comes on top."""
EXIT_INTERRUPTED = 75
ENDS = {"cancel": "cancelled", "pause": "paused"}
"""The status that a job has once what the user wants of it is done."""


def train(lease: Lease, lost: threading.Event) -> None:
    """Trains until the run ends, the user wants it to end, the worker stops, or the lease is lost."""
    begun = _begin(lease)
    if begun is None:
        return
    job, version, base_files = begun
    run_dir = get_settings().runs_dir / job.id
    config_path = _write_config(job, _materialise(version), base_files)
    crash_point("train_config_written")
    run_folder.prepare(lease, run_dir, lost)
    mirror = Mirror(lease, run_dir)
    uploads = Uploads(run_dir, _stored_checkpoints(job.id))
    # A stopped or wedged trainer hears no SIGTERM, and an heir goes on from the last checkpoint anyway.
    trainer = start(
        [sys.executable, "-m", "trainer", str(config_path), "--out", str(run_dir)],
        on_parent_death=signal.SIGKILL,
        log=run_dir.with_suffix(".log"),
    )
    try:
        wanted = _follow(trainer, mirror, uploads, lost)
    except LeaseLostError:
        lost.set()
        raise
    finally:
        kill_group(trainer)
        status = trainer.wait()
        uploads.end(in_a_hurry=lost.is_set())
    if lost.is_set():
        raise LeaseLostError(f"job {job.id} belongs to another worker")
    mirror.copy(uploads.stored())
    _conclude(lease, job, run_dir, status, wanted)


def _begin(lease: Lease) -> tuple[Job, Version, dict[str, str] | None] | None:
    """The job, its version and its base's files; None for one that has ended, or that nobody wants any more."""
    with writing() as session:
        job = session.get_one(Job, lease.subject, with_for_update=True)
        check_held(session, lease)
        if job.wanted is not None and job.status not in FINAL:
            _stop_as(session, job, ENDS[job.wanted])
        if job.status in (*FINAL, "paused"):
            finish(session, lease, {"status": job.status})
            return None
        job.status = "running"
        named = job.config["model"].get("base")
        return job, session.get_one(Version, job.version_id), model_files(session, named) if named else None


def _stored_checkpoints(job_id: str) -> dict[int, Json]:
    """Qualities, by step, of the checkpoints that the store has."""
    with reading() as session:
        found = session.scalars(select(JobCheckpoint).where(JobCheckpoint.job_id == job_id))
        return {row.step: row.metrics for row in found if row.files}


def fail_job(session: Session, lease: Lease, error: str) -> None:
    """The job cannot be trained."""
    job = session.get(Job, lease.subject)
    if job is not None and job.status not in ("succeeded", "cancelled"):
        job.status = "failed"
        job.error = {"code": "training_failed", "message": error, "param": None}
        job.finished_at = time.time()
        session.add(JobEvent(job_id=job.id, level="error", message=error))


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


def _cache_dir() -> Path:
    return get_settings().work_dir.with_name("vectors")


def _follow(trainer: "subprocess.Popen[bytes]", mirror: Mirror, uploads: Uploads, lost: threading.Event) -> str | None:
    """Waits for the trainer's end, or brings it about; returns what the user wanted, or `stopping`.

    An outage of the database does not stop the training: what came meanwhile is mirrored after it.
    """
    while trainer.poll() is None:
        wanted = None
        try:
            mirror.copy(uploads.stored())
            wanted = mirror.wanted()
        except OperationalError as error:
            log.warning("metrics and checkpoints wait for the database: %s", type(error).__name__)
        if lost.is_set():
            return None
        if stopping.is_set() or wanted is not None:
            stop(trainer, grace_s=GRACE_S)
            return wanted or "stopping"
        lost.wait(POLL_S)
    return None


def _conclude(lease: Lease, job: Job, run_dir: Path, status: int, wanted: str | None) -> None:
    if status == 0:
        _publish(lease, job, run_dir)
    elif wanted in ENDS:
        with writing() as session:
            job = session.get_one(Job, job.id, with_for_update=True)
            ended_as = ENDS[job.wanted or wanted]  # a cancellation may have come after the pause
            finish(session, lease, {"status": ended_as})
            _stop_as(session, job, ended_as)
    elif wanted == "stopping" or status == EXIT_INTERRUPTED:
        give_back(lease, nudge=True)
    else:
        raise CannotBeDoneError(_reason(run_dir, status))


def _stop_as(session: Session, job: Job, status: str) -> None:
    """The user wanted the job to be cancelled or paused, and it is."""
    job.status, job.wanted = status, None
    job.finished_at = time.time() if status in FINAL else None
    session.add(JobEvent(job_id=job.id, message=f"Job {status}."))


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
