"""Selects of experiments and their runs."""

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Experiment, ExperimentRun, Job


def get_experiment(session: Session, experiment_id: str) -> Experiment:
    """The experiment, or NotFound."""
    experiment = session.get(Experiment, experiment_id)
    if experiment is None:
        raise NotFound(f"there is no experiment {experiment_id}")
    return experiment


def experiments() -> Select[Experiment]:
    """All experiments."""
    return select(Experiment)


def runs_of(session: Session, experiment_ids: Sequence[str]) -> dict[str, list[tuple[ExperimentRun, Job]]]:
    """Each experiment's runs with their jobs, in the order of the grid."""
    joined = select(ExperimentRun, Job).join(Job, Job.id == ExperimentRun.job_id)
    mine = joined.where(ExperimentRun.experiment_id.in_(experiment_ids))
    found: dict[str, list[tuple[ExperimentRun, Job]]] = {name: [] for name in experiment_ids}
    for run, job in session.execute(mine.order_by(ExperimentRun.experiment_id, ExperimentRun.ordinal)):
        found[run.experiment_id].append((run, job))
    return found
