"""Experiments: a training over a grid of settings, and its report."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.experiments import repository, service
from app.experiments.schemas import ExperimentObject, NewExperiment
from app.experiments.showing import show_experiments
from app.models import Experiment
from app.once import OnceRoute

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], route_class=OnceRoute)
ExperimentId = Annotated[str, Path(pattern=r"^exp-[0-9a-f]{24}$")]


@router.post("", status_code=202, dependencies=[needs("train")], responses=responses(NotFound))
def create(body: NewExperiment, session: WriteSession) -> ExperimentObject:
    """Trains once for every combination of the grid's values and compares the runs; poll it until it has ended."""
    return show_experiments(session, [service.create_experiment(session, body)])[0]


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_experiments(session: ReadSession, page: Paged) -> ListOf:
    """All experiments, the newest first."""
    rows, more = page_of(session, repository.experiments(), Experiment, page)
    return ListOf(data=show_experiments(session, rows), has_more=more)


@router.get("/{experiment_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get(experiment_id: ExperimentId, session: ReadSession) -> ExperimentObject:
    """One experiment: its runs with their jobs, and how far it is."""
    return show_experiments(session, [repository.get_experiment(session, experiment_id)])[0]


@router.post("/{experiment_id}/cancel", dependencies=[needs("train")], responses=responses(NotFound, Conflict))
def cancel(experiment_id: ExperimentId, session: WriteSession) -> ExperimentObject:
    """Ends an experiment and those of its jobs that have not ended."""
    return show_experiments(session, [service.cancel_experiment(session, experiment_id)])[0]
