"""Experiments: a training over a grid, its runs, what may be concluded."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from app.console import overview
from app.console.pages import PageRoute, SignedIn, render
from app.dependencies import Paged, ReadSession, page_of
from app.experiments import repository
from app.experiments.report import read_report
from app.experiments.routes import ExperimentId
from app.experiments.showing import show_experiments
from app.models import FINAL, Experiment, Version
from app.training.showing import list_models

router = APIRouter(prefix="/console/experiments", route_class=PageRoute, include_in_schema=False)


@router.get("")
def experiments(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """All experiments, and a form for a new one."""
    rows, more = page_of(session, repository.experiments(), Experiment, page)
    usable = select(Version).where(Version.status == "succeeded").order_by(Version.created_at.desc()).limit(200)
    versions = session.scalars(usable).all()
    return render(
        request, "experiments.html.jinja", experiments=show_experiments(session, rows), has_more=more,
        versions=versions, names=overview.names_of(session, versions), models=list_models(session),
    )  # fmt: skip


@router.get("/{experiment_id}")
def experiment(request: Request, console: SignedIn, experiment_id: ExperimentId, session: ReadSession) -> Response:
    """One experiment: its runs, and once it has ended what it found."""
    found = repository.get_experiment(session, experiment_id)
    report: dict[str, Any] | None = read_report(session, found) if found.report_sha256 else None
    return render(
        request, "experiment.html.jinja", experiment=show_experiments(session, [found])[0], report=report,
        is_final=found.status in FINAL,
    )  # fmt: skip
