"""Training: jobs, launching one, its curves while it runs and afterwards, several beside each other, chat."""

import re
from itertools import islice
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.console import overview
from app.console.cost import estimate
from app.console.pages import PageRoute, SignedIn, render
from app.dependencies import Paged, ReadSession, page_of
from app.errors import NotFound
from app.models import FINAL, Job, Version
from app.store import get_store
from app.training import repository
from app.training.routes import JobId
from app.training.showing import list_models, show_checkpoint, show_job
from app.training.stream import show_event
from trainer.config import PEAK_LR

router = APIRouter(prefix="/console/training", route_class=PageRoute, include_in_schema=False)
MOST_COMPARED = 50
MOST_SAMPLES = 20
SAMPLES = re.compile(r"evaluation/samples-step-[0-9]+\.jsonl")


@router.get("")
def jobs(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """All jobs; up to fifty of them can be put beside each other."""
    rows, more = page_of(session, select(Job), Job, page)
    return render(
        request, "jobs.html.jinja", jobs=[show_job(row) for row in rows], has_more=more,
        names={row.id: overview.name_of_job(row) for row in rows}, versions=_names_of_versions(session, rows),
        compared=MOST_COMPARED,
    )  # fmt: skip


def _names_of_versions(session: Session, jobs: list[Job]) -> dict[str, str]:
    ids = {job.version_id for job in jobs}
    return overview.names_of(session, session.scalars(select(Version).where(Version.id.in_(ids))).all())


@router.get("/new")
def launch(
    request: Request, console: SignedIn, session: ReadSession, version: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """A form with sensible defaults, and what the run will cost."""
    usable = select(Version).where(Version.status == "succeeded").order_by(Version.created_at.desc()).limit(200)
    versions = session.scalars(usable).all()
    return render(
        request, "launch.html.jinja", versions=versions, names=overview.names_of(session, versions), chosen=version,
        models=list_models(session), peak_lr=PEAK_LR,
    )  # fmt: skip


@router.get("/cost")
def cost(
    console: SignedIn,
    session: ReadSession,
    version: Annotated[str, Query(pattern=r"^ver-[0-9a-f]{24}$")],
    model: Annotated[str, Query(max_length=1000)],
    epochs: Annotated[float, Query(gt=0, le=1000)] = 3.0,
    max_steps: Annotated[int | None, Query(ge=1)] = None,
    batch_tokens: Annotated[int | None, Query(ge=1)] = None,
    lora: bool = False,
) -> dict[str, Any]:
    """What the form asks while it is filled in."""
    return estimate(
        session, version, model, epochs=epochs, max_steps=max_steps, batch_tokens=batch_tokens, lora=lora
    )  # fmt: skip


@router.get("/compare")
def compare(
    request: Request,
    console: SignedIn,
    session: ReadSession,
    job: Annotated[list[str], Query(max_length=MOST_COMPARED)] = [],  # noqa: B006
) -> Response:
    """Curves of several jobs in one chart, and the settings in which they differ."""
    rows = [repository.get_job(session, name) for name in dict.fromkeys(job)]
    settings = {row.id: _flat(row.resolved or row.config) for row in rows}
    names = sorted({name for one in settings.values() for name in one})
    differing = [name for name in names if len({str(one.get(name)) for one in settings.values()}) > 1]
    finals = {row.id: _final_losses(session, row.id) for row in rows}
    return render(
        request, "compare.html.jinja", jobs=[show_job(row) for row in rows], settings=settings, differing=differing,
        names={row.id: overview.name_of_job(row) for row in rows}, finals=finals,
        versions=_names_of_versions(session, rows),
    )  # fmt: skip


def _final_losses(session: Session, job_id: str) -> dict[str, float | None]:
    """The last step's loss, and the best on held-out conversations."""
    lines, _ = repository.metrics(session, job_id, 1)
    held_out = [row["validation_loss"] for row in repository.evaluations(session, job_id) if "validation_loss" in row]
    return {"loss": lines[-1]["loss"] if lines else None, "validation_loss": min(held_out, default=None)}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


@router.get("/chat")
def chat(
    request: Request,
    console: SignedIn,
    session: ReadSession,
    model: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """A model's replies beside those of another, such as the one it began from."""
    models = [one for one in list_models(session) if not one.id.startswith("scratch:")]
    if model and model not in {one.id for one in models}:
        raise NotFound("there is no such model to chat with")
    tuned = repository.find_model(session, model) if model else None
    beside = tuned.model if tuned is not None and tuned.model in {one.id for one in models} else ""
    return render(request, "chat.html.jinja", models=models, chosen=model, beside=beside)


@router.get("/{job_id}")
def job(request: Request, console: SignedIn, job_id: JobId, session: ReadSession) -> Response:
    """One job: curves as they grow, recoveries on them, events, settings, checkpoints, files."""
    found = repository.get_job(session, job_id)
    events, _ = repository.events(session, job_id, None, 100)
    losses = {row["step"]: row.get("validation_loss") for row in repository.evaluations(session, job_id)}
    return render(
        request, "job.html.jinja", job=show_job(found), name=overview.name_of_job(found),
        version_name=_names_of_versions(session, [found])[found.version_id], is_final=found.status in FINAL,
        events=[show_event(row) for row in events], settings=_flat(found.resolved or found.config),
        checkpoints=[
            show_checkpoint(found, row, losses.get(row.step)) for row in repository.checkpoints(session, job_id)
        ],
        files=repository.files(session, job_id),
        samples=_samples(session, job_id),
    )  # fmt: skip


def _samples(session: Session, job_id: str) -> list[dict[str, Any]]:
    """Replies that the newest evaluation generated, beside those that were given; none where it generated none."""
    files = [file for file in repository.files(session, job_id) if SAMPLES.fullmatch(file.name)]
    if not files:
        return []
    newest = max(files, key=lambda file: int(file.name.rpartition("-")[2].removesuffix(".jsonl")))
    with get_store().path(newest.sha256).open("rb") as lines:
        return [orjson.loads(line) for line in islice(lines, MOST_SAMPLES)]


@router.get("/{job_id}/status")
def status(request: Request, console: SignedIn, job_id: JobId, session: ReadSession) -> Response:
    """The part of a job's page that is asked for again while it runs."""
    found = repository.get_job(session, job_id)
    answer = render(request, "parts/job_status.html.jinja", job=show_job(found), is_final=found.status in FINAL)
    if found.status in FINAL:
        answer.headers["hx-refresh"] = "true"
    return answer
