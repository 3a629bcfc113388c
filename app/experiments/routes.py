"""Experiments: a training over a grid of settings, and its report."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.experiments import repository, service
from app.experiments.report import read_report, read_samples, render_html, render_markdown
from app.experiments.schemas import ExperimentObject, NewExperiment
from app.experiments.showing import show_experiments
from app.models import Experiment
from app.once import OnceRoute

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], route_class=OnceRoute)
ExperimentId = Annotated[str, Path(pattern=r"^exp-[0-9a-f]{24}$")]
READABLE = responses(NotFound, Conflict)
REPORTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/html": {}, "text/markdown": {}}}
}


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


@router.get(
    "/{experiment_id}/report",
    dependencies=[needs("read")],
    responses=READABLE | REPORTED,
    response_class=JSONResponse,
)
def report(
    experiment_id: ExperimentId, session: ReadSession, format: Literal["json", "html", "md"] = "json"
) -> Response:
    """What the runs did on the same held-out replies, which differences are beyond noise, what may be concluded."""
    found = read_report(session, repository.get_experiment(session, experiment_id))
    if format == "html":
        return Response(render_html(found), media_type="text/html")
    if format == "md":
        return Response(render_markdown(found), media_type="text/markdown")
    return Response(orjson.dumps(found), media_type="application/json")


@router.get("/{experiment_id}/samples", dependencies=[needs("read")], responses=READABLE)
def samples(
    experiment_id: ExperimentId,
    session: ReadSession,
    after: Annotated[int, Query(ge=0, description="how many come before")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> ListOf:
    """Held-out replies as they were given and as every run generated them, the longest histories of a set first."""
    rows = read_samples(repository.get_experiment(session, experiment_id))
    return ListOf(data=rows[after : after + limit], has_more=len(rows) > after + limit)
