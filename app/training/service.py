"""The rules of fine-tuning jobs: which settings a request makes, what may be cancelled, how a job is told."""

import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.repository import get_version, open_work
from app.datasets.schemas import NewVersion
from app.datasets.service import create_version
from app.errors import Conflict, Unprocessable
from app.files.repository import get_file
from app.models import FINAL, Dataset, Job, JobEvent, Version, new_id
from app.queue import add_nudge
from app.settings import get_settings
from app.training import repository
from app.training.schemas import Hyperparameters, JobError, JobObject, JobProgress, ModelObject, NewJob
from app.training.waiting import queue_job
from trainer.config import PEAK_LR, PRESETS, ConfigError, TrainConfig, parse_config

FORBIDDEN = (("model", "base"), ("data", "version"), ("data", "validation"), ("data", "cache_dir"), ("run", "nnodes"))
"""Settings that name a path or a machine are the service's to make."""
SCRATCH = "scratch:"


def create_job(session: Session, body: NewJob) -> Job:
    """Records a job and its work.

    Raises:
        Unprocessable: a setting is wrong; `param` names it.
    """
    version = _training_version(session, body.training_file)
    config = _config(session, body)
    checked = _check(config, version)
    config["run"] = {**config.get("run", {}), "seed": checked.run.seed}
    request = body.model_dump(mode="json", exclude={"trainer"})
    job = Job(
        id=new_id("ftjob"), version_id=version.id, model=body.model, status="validating_files", request=request,
        config=config, resolved={}, progress={}, architecture=[], recovery=[],
    )  # fmt: skip
    session.add(job)
    session.flush()
    if version.status == "succeeded":
        queue_job(session, job)
    else:
        _tell(session, job, f"Waiting for {version.id}, which is made of {body.training_file}.")
    session.flush()
    return job


def _training_version(session: Session, name: str) -> Version:
    """The version to learn from; of a file, one that holds its conversations as they are, made for it alone.

    Raises:
        NotFound: there is no such version or file.
        Unprocessable: the version did not succeed, or the file holds no conversations.
    """
    if name.startswith("file-"):
        file = get_file(session, name)
        if file.status == "error":
            raise Unprocessable(f"training_file: {name} could not be read", param="training_file")
        dataset = Dataset(id=new_id("ds"), name=file.filename, description=f"Made for fine-tuning on {name}.")
        session.add(dataset)
        session.flush()
        try:
            return create_version(session, dataset.id, NewVersion(files=[name], recipe={"operators": []}))
        except Unprocessable as error:
            raise Unprocessable(f"training_file: {error.detail}", param="training_file") from None
    version = get_version(session, name)
    if version.status != "succeeded":
        raise Unprocessable(f"training_file: the version is {version.status}", param="training_file")
    return version


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


def show_job(job: Job) -> JobObject:
    """The job as the API tells it."""
    hyperparameters = _hyperparameters(job.request)
    supervised = {"hyperparameters": hyperparameters.model_dump()}
    return JobObject(
        id=job.id, created_at=int(job.created_at),
        finished_at=None if job.finished_at is None else int(job.finished_at),
        model=job.model, fine_tuned_model=job.fine_tuned_model, status=job.status,
        hyperparameters=hyperparameters.model_dump(), method={"type": "supervised", "supervised": supervised},
        training_file=job.request["training_file"], result_files=[], trained_tokens=job.trained_tokens,
        seed=job.config["run"]["seed"], metadata=job.request.get("metadata"), integrations=[],
        error=None if job.error is None else JobError(**job.error), dataset_version=job.version_id,
        progress=JobProgress(**job.progress), architecture=job.architecture, recovery=job.recovery,
        trainer=job.resolved or job.config,
    )  # fmt: skip


def list_models(session: Session) -> list[ModelObject]:
    """Finished fine-tunes, registered bases, and what can be made from scratch."""
    tuned = [
        ModelObject(id=job.fine_tuned_model, created=int(job.finished_at or 0), owned_by="user")
        for job in repository.finished(session)
        if job.fine_tuned_model is not None
    ]
    bases = [
        ModelObject(id=base.id, created=int(base.created_at), owned_by="local") for base in repository.bases(session)
    ]
    scratch = [ModelObject(id=f"{SCRATCH}{name}", created=0, owned_by="talkmill") for name in PRESETS]
    return [*tuned, *bases, *scratch]


def _config(session: Session, body: NewJob) -> dict[str, Any]:
    """The trainer's settings: the model, OpenAI's hyperparameters, and above them the request's `trainer`."""
    for part, field in FORBIDDEN:
        if isinstance(body.trainer.get(part), dict) and field in body.trainer[part]:
            raise Unprocessable(f"trainer.{part}.{field}: is the service's to set", param=f"trainer.{part}.{field}")
    config: dict[str, Any] = {}
    for part, value in body.trainer.items():
        if not isinstance(value, dict):
            raise Unprocessable(f"trainer.{part}: must be an object", param=f"trainer.{part}")
        config[part] = dict(value)
    config["model"] = _model(session, body.model, config.get("model", {}))
    hyperparameters = _hyperparameters(body.model_dump())
    run, optim = config.setdefault("run", {}), config.setdefault("optim", {})
    if hyperparameters.n_epochs != "auto":
        run.setdefault("epochs", hyperparameters.n_epochs)
    if hyperparameters.batch_size != "auto":
        config.setdefault("batch", {}).setdefault("conversations", hyperparameters.batch_size)
    if hyperparameters.learning_rate_multiplier != "auto":
        default = PEAK_LR["scratch" if "scratch" in config["model"] else "base"]
        optim.setdefault("peak_lr", default * hyperparameters.learning_rate_multiplier)
    if body.seed is not None:
        run.setdefault("seed", body.seed)
    return config


def _model(session: Session, name: str, given: dict[str, Any]) -> dict[str, Any]:
    if name.startswith(SCRATCH):
        preset = name.removeprefix(SCRATCH)
        if preset not in PRESETS:
            raise Unprocessable(
                f"model: unknown preset, known are {', '.join(SCRATCH + p for p in PRESETS)}", param="model"
            )
        sizes = given.get("scratch", {})
        if not isinstance(sizes, dict):
            raise Unprocessable("trainer.model.scratch: must be an object", param="trainer.model.scratch")
        return {**given, "scratch": {"preset": preset, **sizes}}
    if repository.find_base(session, name) or repository.find_model(session, name):
        return {**given, "base": name}
    folder = Path(os.path.realpath(name))
    allowed = [root.resolve() for root in get_settings().model_folders]
    if Path(name).is_absolute() and any(folder.is_relative_to(root) for root in allowed) and _is_model(folder):
        return {**given, "base": str(folder)}
    raise Unprocessable(
        "model: neither a registered base (`talkmill models add`), nor a finished fine-tune, nor scratch:<preset>, "
        "nor an allowed folder; GET /v1/models lists them",
        param="model",
    )


def _is_model(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # such as a name too long
        return False


def _check(config: dict[str, Any], version: Version) -> TrainConfig:
    """Checks the settings as the trainer will, and the lengths against the version's bounds."""
    try:
        checked = parse_config({**config, "data": {**config.get("data", {}), "version": "manifest.json"}})
    except ConfigError as error:
        message = str(error)
        raise Unprocessable(f"trainer.{message}", param=f"trainer.{message.split(':', maxsplit=1)[0]}") from None
    bounds: dict[str, Any] = next((op for op in version.recipe["operators"] if op["kind"] == "truncate_history"), {})
    for name in ("max_source_length", "max_target_length"):
        wanted = getattr(checked.data, name)
        if wanted > bounds.get(name, wanted):
            detail = f"trainer.data.{name}: the version was truncated to {bounds[name]}, {wanted} is beyond it"
            raise Unprocessable(detail, param=f"trainer.data.{name}")
    return checked


def _hyperparameters(request: dict[str, Any]) -> Hyperparameters:
    """Those of the method, else the older member's, else the defaults."""
    method = request.get("method") or {}
    given = (method.get("supervised") or {}).get("hyperparameters") if method else request.get("hyperparameters")
    return Hyperparameters(**(given or {}))
