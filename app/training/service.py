"""The rules of fine-tuning jobs: what may become one, and when it may be cancelled, paused, resumed."""

import time

from sqlalchemy.orm import Session

from app.datasets.repository import get_version, open_work
from app.datasets.schemas import NewVersion
from app.datasets.service import create_version
from app.errors import Conflict, NotFound, Unprocessable
from app.files.repository import get_file
from app.models import FINAL, Dataset, Job, JobEvent, Version, new_id
from app.queue import add_nudge
from app.training import repository
from app.training.configs import check_config, make_config, mixed_versions
from app.training.schemas import NewJob
from app.training.waiting import queue_if_ready


def create_job(session: Session, body: NewJob) -> Job:
    """Records a job and its work.

    Raises:
        Unprocessable: a setting is wrong; `param` names it.
    """
    return record_job(session, body, *_versions(session, body))


def record_job(session: Session, body: NewJob, version: Version, validation: Version | None) -> Job:
    """The same of versions that are known, and may still be made: the job waits for them.

    Raises:
        Unprocessable: a setting is wrong; `param` names it.
    """
    config = make_config(session, body)
    checked = check_config(config, version, mixed_versions(session, config))
    config["run"] = {**config.get("run", {}), "seed": checked.run.seed}
    job = Job(
        id=new_id("ftjob"), version_id=version.id, validation_version_id=None if validation is None else validation.id,
        model=body.model, status="validating_files", request=body.model_dump(mode="json", exclude={"trainer"}),
        config=config, resolved={}, progress={}, architecture=[], recovery=[], result_files=[],
    )  # fmt: skip
    session.add(job)
    session.flush()
    made_of = {version.id: body.training_file} | ({} if validation is None else {validation.id: body.validation_file})
    waits = [f"{name}, which is made of {file}" for name, file in made_of.items() if name != file]
    if waits:
        _tell(session, job, f"Waiting for {' and '.join(waits)}.")
    queue_if_ready(session, job)
    session.flush()
    return job


def _versions(session: Session, body: NewJob) -> tuple[Version, Version | None]:
    """The version to learn from, and the one to validate on where the request names one."""
    if body.validation_file == body.training_file:
        detail = "validation_file: what is validated on is not trained on, so nothing would be left of training_file"
        raise Unprocessable(detail, param="validation_file")
    version = learnable_version(session, body.training_file, "training_file")
    if body.validation_file is None:
        return version, None
    return version, learnable_version(session, body.validation_file, "validation_file")


def learnable_version(session: Session, name: str, param: str) -> Version:
    """The version of this id; of a file, one that holds its conversations as they are, made for the job alone.

    Raises:
        NotFound: there is no such version or file.
        Unprocessable: the version did not succeed, or the file holds no conversations.
    """
    try:
        found = get_file(session, name) if name.startswith("file-") else get_version(session, name)
    except NotFound as error:
        raise NotFound(error.detail, param=param) from None
    if isinstance(found, Version):
        if found.status != "succeeded":
            raise Unprocessable(f"{param}: the version is {found.status}", param=param)
        return found
    if found.status == "error":
        raise Unprocessable(f"{param}: {name} could not be read", param=param)
    dataset = Dataset(id=new_id("ds"), name=found.filename, description=f"Made for fine-tuning on {name}.")
    session.add(dataset)
    session.flush()
    try:
        return create_version(session, dataset.id, NewVersion(files=[name], recipe={"operators": []}))
    except Unprocessable as error:
        raise Unprocessable(f"{param}: {error.detail}", param=param) from None


def cancel_job(session: Session, job_id: str) -> Job:
    """Ends a job that does not run at once, and asks a running one to end.

    Raises:
        Conflict: it has ended already.
    """
    job = _locked(session, job_id)
    if job.status in FINAL:
        raise Conflict(f"the job has {job.status} already", code="already_ended")
    if _take_back(session, job, "cancelled") or job.status in ("paused", "validating_files"):
        job.status, job.finished_at = "cancelled", time.time()
        _tell(session, job, "Job cancelled.")
    job.wanted = "cancel"
    return job


def pause_job(session: Session, job_id: str) -> Job:
    """Takes a queued job back at once, and asks a running one to write a checkpoint and stop.

    Raises:
        Conflict: it has ended, is paused already, or its version is not there yet.
    """
    job = _locked(session, job_id)
    if job.status in (*FINAL, "paused", "validating_files"):
        raise Conflict(f"the job is {job.status}: only a queued or a running one is paused", code="not_running")
    if _take_back(session, job, "done"):
        job.status = "paused"
        _tell(session, job, "Job paused.")
    else:
        job.wanted = "pause"
    return job


def resume_job(session: Session, job_id: str) -> Job:
    """Queues a paused job again; it goes on from its newest checkpoint.

    Raises:
        Conflict: it is not paused, or not yet.
    """
    job = _locked(session, job_id)
    if job.status != "paused":
        soon = job.wanted == "pause"
        detail = "is still being paused: try again in a moment" if soon else f"is {job.status}, not paused"
        raise Conflict(f"the job {detail}", code="not_paused", permanent=not soon)
    job.status, job.wanted = "queued", None
    work = repository.training_work(session, job_id)
    work.state, work.result = "pending", None
    _tell(session, job, "Job resumed.")
    add_nudge(session, work)
    return job


def _locked(session: Session, job_id: str) -> Job:
    job = repository.get_job(session, job_id)
    session.refresh(job, with_for_update=True)
    return job


def _take_back(session: Session, job: Job, state: str) -> bool:
    """Ends work that no worker has claimed; whether there was any."""
    pending = [work for work in open_work(session, job.id) if work.state == "pending"]
    for work in pending:
        work.state = state
    return bool(pending)


def _tell(session: Session, job: Job, message: str) -> None:
    session.add(JobEvent(job_id=job.id, message=message))
