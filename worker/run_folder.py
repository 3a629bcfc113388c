"""A job's run directory on this machine: whether it is up to date, and how it is rebuilt from the store where not.

Every owner of a job leaves its lease's fence in the directory and on the job. Where the two agree, nobody else has gone
on with the run since, and the directory may be ahead of the store; otherwise it is emptied and laid out anew: what the
checkpoints hold that were uploaded, and what was mirrored of metrics, evaluations, events and recovery.
"""

import json
import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import reading, writing
from app.models import Job, JobCheckpoint, JobEvaluation, JobMetric, Json
from app.store import get_store
from trainer.run_lock import RunLock
from worker.leases import Lease, LeaseLostError, check_held
from worker.mirror import mirrored_events
from worker.publishing import forget_evaluations

log = logging.getLogger(__name__)

FENCE = "fence"
LOCKS = ("lock", "owner.lock")
WAIT_S = 0.1


def prepare(lease: Lease, run_dir: Path, lost: threading.Event) -> None:
    """Makes the directory the newest state of the run that is left anywhere.

    Waits until the ranks of an earlier owner on this machine are gone.

    Raises:
        LeaseLostError: the lease was lost meanwhile.
        OSError: the store is away.
    """
    with reading() as session:
        run_fence = session.scalar(select(Job.run_fence).where(Job.id == lease.subject))
    with _entered(run_dir, lost):
        marker = run_dir / FENCE
        left_by = marker.read_text() if marker.exists() else None
        last_step = None if left_by is not None and left_by == str(run_fence) else _rebuild(lease.subject, run_dir)
        marker.write_text(str(lease.fence))
        with writing() as session:
            job = session.get_one(Job, lease.subject, with_for_update=True)
            check_held(session, lease)
            job.run_fence = lease.fence
            if last_step is not None:
                undone = (JobMetric.job_id == lease.subject, JobMetric.step > last_step)
                session.execute(delete(JobMetric).where(*undone))
                forget_evaluations(session, lease.subject, last_step)


@contextmanager
def _entered(run_dir: Path, lost: threading.Event) -> Iterator[None]:
    lock = RunLock(run_dir)
    try:
        while not lock.try_own():
            if lost.wait(WAIT_S):
                raise LeaseLostError("lost while the run directory was in use")
        yield
    finally:
        lock.release()


def _rebuild(job_id: str, run_dir: Path) -> int:
    """Empties the directory and lays out what is known of the run; returns the step it goes on from, 0 for a new run.

    The fence goes first, so that a rebuilding that is cut short is done again.
    """
    (run_dir / FENCE).unlink(missing_ok=True)
    for path in run_dir.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in LOCKS:
            path.unlink()
    with reading() as session:
        found = select(JobCheckpoint).where(JobCheckpoint.job_id == job_id).order_by(JobCheckpoint.step)
        checkpoints = [checkpoint for checkpoint in session.scalars(found) if checkpoint.files]
        last_step = max((checkpoint.step for checkpoint in checkpoints), default=0)
        job = session.get_one(Job, job_id)
        told: dict[str, Sequence[Json]] = {
            "metrics": _lines(session, JobMetric, job_id, last_step),
            "evaluations": _lines(session, JobEvaluation, job_id, last_step),
            "events": mirrored_events(session, job_id),
            "recovery": job.recovery,
        }
    for name, lines in told.items():
        _write_lines(run_dir / f"{name}.jsonl", lines)
    store = get_store()
    files = {file["name"]: file["sha256"] for checkpoint in checkpoints for file in checkpoint.files}
    for name, sha256 in files.items():
        store.materialise(sha256, run_dir / name)
    return last_step


def _lines(
    session: Session, table: type[JobMetric] | type[JobEvaluation], job_id: str, last_step: int
) -> Sequence[Json]:
    mine = select(table.data).where(table.job_id == job_id, table.step <= last_step)
    return session.scalars(mine.order_by(table.step)).all()


def _write_lines(path: Path, lines: Sequence[Json]) -> None:
    """As the trainer writes them."""
    if lines:
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
