"""How an experiment is told."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.experiments import repository
from app.experiments.schemas import ExperimentObject, ExperimentProgress, RunObject
from app.models import FINAL, Experiment, ExperimentRun, Job


def show_experiments(session: Session, experiments: Sequence[Experiment]) -> list[ExperimentObject]:
    """Experiments as the API tells them."""
    runs = repository.runs_of(session, [one.id for one in experiments])
    return [_show(one, runs[one.id]) for one in experiments]


def _show(experiment: Experiment, runs: list[tuple[ExperimentRun, Job]]) -> ExperimentObject:
    progress = ExperimentProgress(
        runs=len(runs),
        trained=sum(job.status in FINAL for _, job in runs),
        scored=sum(run.scores is not None for run, _ in runs),
    )
    return ExperimentObject(
        id=experiment.id, name=experiment.name, status=experiment.status, **experiment.request,
        runs=[_show_run(run, job) for run, job in runs], progress=progress, review=experiment.review_id,
        warnings=experiment.warnings, error=experiment.error, created_at=int(experiment.created_at),
        finished_at=None if experiment.finished_at is None else int(experiment.finished_at),
    )  # fmt: skip


def _show_run(run: ExperimentRun, job: Job) -> RunObject:
    error = run.error or (None if job.error is None else job.error["message"])
    return RunObject.model_validate(
        {
            "ordinal": run.ordinal,
            "name": run.name,
            "settings": run.settings,
            "budget": run.budget,
            "job": job.id,
            "version": job.version_id,
            "status": job.status,
            "scored": run.scores is not None,
            "error": error,
        }
    )
