"""How a job and a model are told: the OpenAI objects, with our own members beside."""

from typing import Any

from sqlalchemy.orm import Session

from app.models import Job, JobCheckpoint
from app.training import repository
from app.training.completions import CHECKPOINT
from app.training.configs import SCRATCH, hyperparameters_of
from app.training.schemas import JobError, JobObject, JobProgress, ModelObject
from trainer.config import PEAK_LR, PRESETS, parse_config


def show_job(job: Job) -> JobObject:
    """The job as the API tells it."""
    hyperparameters = _hyperparameters(job)
    running = job.status == "running"
    return JobObject(
        id=job.id, created_at=int(job.created_at),
        finished_at=None if job.finished_at is None else int(job.finished_at),
        estimated_finish=job.progress.get("estimated_finish") if running else None,
        model=job.model, fine_tuned_model=job.fine_tuned_model, status=job.status,
        hyperparameters=hyperparameters,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        training_file=job.request["training_file"], validation_file=job.request.get("validation_file"),
        result_files=job.result_files, trained_tokens=job.trained_tokens,
        seed=job.config["run"]["seed"], metadata=job.request.get("metadata"), integrations=[],
        error=None if job.error is None else JobError(**job.error), dataset_version=job.version_id,
        validation_version=job.validation_version_id,
        progress=JobProgress(**job.progress), architecture=job.architecture,
        recovery=[{name: value for name, value in entry.items() if name != "detour"} for entry in job.recovery],
        trainer=job.resolved or job.config,
    )  # fmt: skip


def _hyperparameters(job: Job) -> dict[str, Any]:
    """As asked for; once the run has begun, `auto` is the number that it stands for.

    Where `trainer.run.max_steps` says how long the run is, no number of epochs does.
    """
    shown = hyperparameters_of(job.request).model_dump()
    if not job.resolved:
        return shown
    run, batch, optim = (job.resolved[part] for part in ("run", "batch", "optim"))
    epochs = None if "max_steps" in job.config["run"] else run["epochs"]
    found = {
        "n_epochs": int(epochs) if epochs is not None and epochs == int(epochs) else epochs,
        "batch_size": batch["conversations"],
        "learning_rate_multiplier": optim["peak_lr"] / PEAK_LR[_kind(job)],
    }
    return {name: value if found[name] is None else found[name] for name, value in shown.items()}


def show_checkpoint(job: Job, row: JobCheckpoint, validation_loss: float | None) -> dict[str, Any]:
    """A checkpoint as the API tells it: the metrics that OpenAI has, and the facts of quality.json."""
    losses = {"train_loss": row.metrics.get("loss"), "valid_loss": validation_loss, "full_valid_loss": validation_loss}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    return {
        "id": row.id, "object": "fine_tuning.job.checkpoint", "created_at": int(row.created_at),
        "fine_tuning_job_id": job.id, "step_number": row.step, "available": bool(row.files),
        "metrics": {"step": row.step, **known, **row.metrics},
        "fine_tuned_model_checkpoint": f"{job.fine_tuned_model or job.id}{CHECKPOINT}{row.step}",
    }  # fmt: skip


def _kind(job: Job) -> str:
    return parse_config({"model": job.config["model"], "data": {"version": job.version_id}}).model.kind


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
