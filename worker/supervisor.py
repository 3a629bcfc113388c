"""Runs a training job: the trainer as a child process, its run directory mirrored into database and store.

The trainer knows nothing of the service. The supervisor writes its config, follows the files it writes (metrics,
events, checkpoints), passes on what the user wants, and publishes what came of it at the end. When the worker stops,
dies or loses its lease, whoever takes the job over goes on from the run directory, on another machine from what was
uploaded.
"""

import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import reading, writing
from app.models import FINAL, Job, JobCheckpoint, JobEvent, Json, Version
from app.process import kill_group, start, stop
from app.settings import get_settings
from app.training.repository import model_files
from worker import run_folder
from worker.celery_app import stopping
from worker.curating import CannotBeDoneError
from worker.leases import Lease, LeaseLostError, check_held, finish, give_back
from worker.mirror import Mirror
from worker.origins import Origins
from worker.publishing import publish
from worker.retention import forget_unused
from worker.run_config import lay_out_version, version_ids, write_config
from worker.uploads import Uploads

log = logging.getLogger(__name__)

POLL_S = 1.0
GRACE_S = 8.0
"""How long a trainer may take to write a checkpoint when it is told to stop; uploading it comes on top."""
EXIT_INTERRUPTED = 75
SETTING = re.compile(r"((?:model|data|batch|optim|run|checkpoint|recovery|evaluate)(?:\.\w+)+): ")
"""How the trainer begins to say that a setting cannot be used."""
PARAMS = {"data.version": "training_file", "data.validation": "validation_file", "model.base": "model"}
"""Settings that are no member of the request's `trainer`."""
ENDS = {"cancel": "cancelled", "pause": "paused"}
"""The status that a job has once what the user wants of it is done."""


def train(lease: Lease, lost: threading.Event) -> None:
    """Trains until the run ends, the user wants it to end, the worker stops, or the lease is lost."""
    begun = _begin(lease)
    if begun is None:
        return
    forget_unused()
    job, versions, base_files = begun
    run_dir = get_settings().runs_dir / job.id
    manifests = {version.id: lay_out_version(version) for version in versions}
    config_path = write_config(job, manifests, base_files)
    crash_point("train_config_written")
    run_folder.prepare(lease, run_dir, lost)
    mirror = Mirror(lease, run_dir, Origins(manifests))
    before = _stored_checkpoints(job.id)
    uploads = Uploads(run_dir, before)
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
    if status == -signal.SIGKILL and wanted is None and goes_on_after_kill(lease, before):
        return
    _conclude(lease, job, run_dir, status, wanted)


def _begin(lease: Lease) -> tuple[Job, list[Version], dict[str, str] | None] | None:
    """The job, its versions and its base's files; None for one that has ended, or that nobody wants any more."""
    with writing() as session:
        job = session.get_one(Job, lease.subject, with_for_update=True)
        check_held(session, lease)
        if job.wanted is not None and job.status not in FINAL:
            _stop_as(session, job, ENDS[job.wanted])
        if job.status in (*FINAL, "paused"):
            finish(session, lease, {"status": job.status})
            return None
        if job.status == "running":
            session.add(JobEvent(job_id=job.id, message="A worker goes on with the job, which another one left."))
        elif job.run_fence is None:
            session.add(JobEvent(job_id=job.id, message="Job started."))
        job.status = "running"
        named = job.config["model"].get("base")
        versions = [session.get_one(Version, version_id) for version_id in version_ids(job)]
        return job, versions, model_files(session, named) if named else None


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
        setting = SETTING.match(error)
        param = None if setting is None else PARAMS.get(setting[1], f"trainer.{setting[1]}")
        job.error = {
            "code": "training_failed" if param is None else "invalid_setting",
            "message": error,
            "param": param,
        }
        job.finished_at = time.time()
        session.add(JobEvent(job_id=job.id, level="error", message=f"Job failed: {error}"))


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
        publish(lease, job, run_dir)
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


def goes_on_after_kill(lease: Lease, before: Mapping[int, Json]) -> bool:
    """Gives a job back whose trainer somebody killed, the kernel for want of memory perhaps; False: too often by now.

    A kill counts as an attempt unless the store has a newer checkpoint than `before`, when the trainer was started.
    """
    moved_on = max(_stored_checkpoints(lease.subject), default=0) > max(before, default=0)
    if not moved_on and lease.attempt + 1 >= get_settings().max_attempts:
        return False
    with writing() as session:
        check_held(session, lease)
        message = "The trainer was killed; the run goes on from its last checkpoint."
        session.add(JobEvent(job_id=lease.subject, level="warning", message=message))
    give_back(lease, nudge=True, error="the trainer was killed", counts_as_attempt=not moved_on)
    return True


def _stop_as(session: Session, job: Job, status: str) -> None:
    """The user wanted the job to be cancelled or paused, and it is."""
    job.status, job.wanted = status, None
    job.finished_at = time.time() if status in FINAL else None
    session.add(JobEvent(job_id=job.id, message=f"Job {status}."))


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
        return lines[-1].removeprefix("Error: ") if lines else "the trainer refused its config"
    return f"the trainer ended with {signal.Signals(-status).name if status < 0 else f'exit status {status}'}"
