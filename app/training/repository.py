"""Selects of fine-tuning jobs and of what they left behind."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Job, JobCheckpoint, JobEvent, JobFile, JobMetric


def get_job(session: Session, job_id: str) -> Job:
    """The job, or NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"there is no fine-tuning job {job_id}")
    return job


def find_model(session: Session, name: str) -> Job | None:
    """The finished job whose model has this name."""
    return session.scalar(select(Job).where(Job.fine_tuned_model == name, Job.status == "succeeded"))


def finished(session: Session) -> Sequence[Job]:
    """Finished jobs, the newest first."""
    return session.scalars(select(Job).where(Job.status == "succeeded").order_by(Job.created_at.desc())).all()


def events(session: Session, job_id: str, after: str | None, limit: int) -> tuple[list[JobEvent], bool]:
    """A page of a job's events, the newest first, and whether more follow."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id)
    if after is not None:
        last = session.scalar(select(JobEvent.seq).where(JobEvent.id == after, JobEvent.job_id == job_id))
        if last is None:
            raise NotFound("`after` names no event of this job", param="after")
        statement = statement.where(JobEvent.seq < last)
    rows = session.scalars(statement.order_by(JobEvent.seq.desc()).limit(limit + 1)).all()
    return list(rows[:limit]), len(rows) > limit


def checkpoints(session: Session, job_id: str) -> list[JobCheckpoint]:
    """A job's checkpoints, the newest first."""
    statement = select(JobCheckpoint).where(JobCheckpoint.job_id == job_id).order_by(JobCheckpoint.step.desc())
    return list(session.scalars(statement))


def metrics(session: Session, job_id: str, points: int) -> tuple[list[dict[str, Any]], bool]:
    """At most `points` steps' metrics, evenly spread with the last one in; and whether some were left out."""
    total = session.scalar(select(func.count()).where(JobMetric.job_id == job_id)) or 0
    last = session.scalar(select(func.max(JobMetric.step)).where(JobMetric.job_id == job_id)) or 0
    stride = -(-total // points) if total else 1
    statement = select(JobMetric.data).where(JobMetric.job_id == job_id, (last - JobMetric.step) % stride == 0)
    return list(session.scalars(statement.order_by(JobMetric.step))), stride > 1


def files(session: Session, job_id: str) -> list[JobFile]:
    """The files of a finished job's model folder, by name."""
    return list(session.scalars(select(JobFile).where(JobFile.job_id == job_id).order_by(JobFile.name)))
