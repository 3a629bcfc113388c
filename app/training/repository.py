"""Selects of fine-tuning jobs and of what they left behind."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Job, JobCheckpoint, JobEvaluation, JobEvent, JobFile, JobMetric, RegisteredModel, Version, Work

BEST = ":best"
"""Behind a fine-tune's name: its model of the best validation loss; without it, that of the last step."""
BEST_FOLDER = "best/"
BESIDE = (BEST_FOLDER, "adapter/", "evaluation/")
"""Where files of a job lie that are none of the last step's model."""


def get_job(session: Session, job_id: str) -> Job:
    """The job, or NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"there is no fine-tuning job {job_id}")
    return job


def find_model(session: Session, name: str) -> Job | None:
    """The finished job whose model has this name."""
    return session.scalar(select(Job).where(Job.fine_tuned_model == name, Job.status == "succeeded"))


def bases(session: Session) -> Sequence[RegisteredModel]:
    """Registered bases, the newest first."""
    return session.scalars(select(RegisteredModel).order_by(RegisteredModel.created_at.desc())).all()


def find_base(session: Session, name: str) -> RegisteredModel | None:
    """The registered base of this name."""
    return session.get(RegisteredModel, name)


def model_files(session: Session, name: str) -> dict[str, str] | None:
    """Name → SHA-256 of the folder of a registered base or of a fine-tune's model; None when there is none."""
    base = find_base(session, name)
    if base is not None:
        return {file["name"]: file["sha256"] for file in base.files}
    job = find_model(session, name.removesuffix(BEST))
    if job is None:
        return None
    part = BEST_FOLDER if name.endswith(BEST) else ""
    found = {file.name: file.sha256 for file in files(session, job.id)}
    if not part:
        return {file: sha256 for file, sha256 in found.items() if not file.startswith(BESIDE)}
    return {file.removeprefix(part): sha256 for file, sha256 in found.items() if file.startswith(part)} or None


def jobs(metadata: Mapping[str, str] | None) -> Select[Job]:
    """Jobs whose metadata has these members, for a page of them; None for those that have no metadata."""
    known = Job.request["metadata"]
    if metadata is None:
        return select(Job).where(known.as_string().is_(None))
    return select(Job).where(*(known[key].as_string() == value for key, value in metadata.items()))


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


def events_since(session: Session, job_id: str, seq: int, limit: int) -> list[JobEvent]:
    """A job's events behind the one of this number, the oldest first."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq)
    return list(session.scalars(statement.order_by(JobEvent.seq).limit(limit)))


def metrics_since(session: Session, job_id: str, step: int, limit: int) -> list[dict[str, Any]]:
    """The metrics of a job's steps behind this one, in order."""
    statement = select(JobMetric.data).where(JobMetric.job_id == job_id, JobMetric.step > step)
    return list(session.scalars(statement.order_by(JobMetric.step).limit(limit)))


def newest_step(session: Session, job_id: str) -> int:
    """The last step that a job has metrics of; 0 before the first."""
    return session.scalar(select(func.max(JobMetric.step)).where(JobMetric.job_id == job_id)) or 0


def training_work(session: Session, job_id: str) -> Work:
    """The work row of a job's training."""
    return session.scalars(select(Work).where(Work.kind == "train", Work.subject == job_id)).one()


def waiting_for(session: Session, version_id: str) -> Sequence[Job]:
    """Jobs that wait for a version that is still being made; locked, in the same order by everyone."""
    mine = or_(Job.version_id == version_id, Job.validation_version_id == version_id)
    waiting = select(Job).where(mine, Job.status == "validating_files").order_by(Job.id)
    return session.scalars(waiting.with_for_update()).all()


def statuses_of_versions(session: Session, job: Job) -> Sequence[str]:
    """Of the version that a job learns from, and of the one that it validates on."""
    wanted = select(Version.status).where(Version.id.in_((job.version_id, job.validation_version_id)))
    return session.scalars(wanted).all()


def checkpoints(session: Session, job_id: str) -> list[JobCheckpoint]:
    """A job's checkpoints, the newest first."""
    statement = select(JobCheckpoint).where(JobCheckpoint.job_id == job_id).order_by(JobCheckpoint.step.desc())
    return list(session.scalars(statement))


def metrics(session: Session, job_id: str, points: int) -> tuple[list[dict[str, Any]], bool]:
    """At most `points` steps' metrics, evenly spread with the last one in; and whether some were left out."""
    total = session.scalar(select(func.count()).where(JobMetric.job_id == job_id)) or 0
    last = newest_step(session, job_id)
    stride = -(-total // points) if total else 1
    statement = select(JobMetric.data).where(JobMetric.job_id == job_id, (last - JobMetric.step) % stride == 0)
    return list(session.scalars(statement.order_by(JobMetric.step))), stride > 1


def evaluations(session: Session, job_id: str) -> list[dict[str, Any]]:
    """How a job's model did on the held-out conversations, in the order of steps."""
    statement = select(JobEvaluation.data).where(JobEvaluation.job_id == job_id)
    return list(session.scalars(statement.order_by(JobEvaluation.step)))


def files(session: Session, job_id: str) -> list[JobFile]:
    """The files that a finished job offers, by name."""
    return list(session.scalars(select(JobFile).where(JobFile.job_id == job_id).order_by(JobFile.name)))
