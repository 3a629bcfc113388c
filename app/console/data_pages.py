"""Datasets and files."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select

from app.console import overview
from app.console.pages import PageRoute, SignedIn, render
from app.console.samples import first_conversations
from app.datasets import repository, service
from app.datasets.routes import DatasetId
from app.dependencies import Paged, ReadSession, page_of
from app.files import repository as files
from app.files.routes import FileId
from app.models import Dataset, File, Version
from app.store import get_store

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)
SHOWN = 5
"""Conversations of a file that are shown at once."""


@router.get("/datasets")
def datasets(request: Request, console: SignedIn, session: ReadSession) -> Response:
    """All datasets, each with its newest version."""
    return render(request, "datasets.html.jinja", datasets=overview.datasets_with_newest(session, 1000))


@router.get("/datasets/{dataset_id}")
def dataset(request: Request, console: SignedIn, dataset_id: DatasetId, session: ReadSession, page: Paged) -> Response:
    """One dataset: its versions."""
    found = repository.get_dataset(session, dataset_id)
    rows, more = page_of(session, repository.versions_of(dataset_id), Version, page)
    versions = service.show_versions(session, rows)
    return render(request, "dataset.html.jinja", dataset=found, versions=versions, has_more=more)


@router.get("/files")
def list_files(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """Uploads, and all files."""
    rows, more = page_of(session, select(File), File, page)
    return render(request, "files.html.jinja", files=rows, has_more=more)


@router.get("/files/{file_id}")
def file(
    request: Request,
    console: SignedIn,
    file_id: FileId,
    session: ReadSession,
    skip: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Response:
    """One file: what was detected, its first conversations, what could not be read and why."""
    from curation.browse import read_quarantine

    found = files.get_file(session, file_id)
    quarantine: list[dict[str, Any]] = []
    more = False
    if found.quarantine_sha256 is not None:
        quarantine, more = read_quarantine(get_store().path(found.quarantine_sha256), limit=50)
    users = [session.get(Version, name) for name in files.users_of(session, file_id) if name.startswith("ver-")]
    versions = [version for version in users if version is not None]
    return render(
        request, "file.html.jinja", file=found, quarantine=quarantine, more_quarantined=more, skip=skip, shown=SHOWN,
        conversations=first_conversations(session, file_id, SHOWN, skip),
        versions=versions, names=overview.names_of(session, versions),
        datasets=session.scalars(select(Dataset).order_by(Dataset.created_at.desc()).limit(50)).all(),
    )  # fmt: skip
