"""Uploads, as in the OpenAI Files API, with what ingest made of them."""

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Form, Path, Query, Request, Response, UploadFile
from fastapi import File as FileField
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import select

from app.auth import needs
from app.crash import crash_point
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.downloads import blob_response
from app.errors import BadRequest, Conflict, NotFound, responses
from app.fields import is_current
from app.files import repository, service
from app.files.service import Purpose
from app.models import File
from app.once import OnceRoute
from app.store import get_store

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=OnceRoute)
FileId = Annotated[str, Path(pattern=r"^file-[0-9a-f]{24}$")]


class FileObject(BaseModel):
    """A file: the OpenAI object and what ingest made of it."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    status_details: str | None
    sha256: str
    format: str | None
    """messages, sharegpt, alpaca, flat_turns; or labels, pairs, preferences, lexicon."""
    detection: dict[str, Any]
    """container, compression, encoding; columns (ours → theirs); the role of each speaker met."""
    counts: dict[str, int]
    """conversations, turns, quarantined; or records, quarantined."""
    warnings: list[str]


class Deleted(BaseModel):
    """A thing that is gone."""

    id: str
    object: str
    deleted: bool = True


def show(file: File) -> FileObject:
    """The file as the API tells it."""
    conversations = file.purpose in repository.CONVERSATIONS
    names = ("conversations", "turns", "quarantined") if conversations else ("records", "quarantined")
    return FileObject(
        id=file.id, bytes=file.bytes, created_at=int(file.created_at), filename=file.filename, purpose=file.purpose,
        status=file.status, status_details=file.status_details, sha256=file.sha256, format=file.format,
        detection=file.detection, counts={name: file.counts.get(name, 0) for name in names}, warnings=file.warnings,
    )  # fmt: skip


@router.post("", dependencies=[needs("curate")], responses=responses(BadRequest))
def upload(
    file: Annotated[UploadFile, FileField(description="the file's bytes")],
    purpose: Annotated[str, Form(description=" | ".join(get_args(Purpose)))],
    session: WriteSession,
    speakers: Annotated[str | None, Form(description="JSON: speaker name → user, assistant, system or ignore")] = None,
    columns: Annotated[str | None, Form(description="JSON: the file's column name → ours")] = None,
) -> FileObject:
    """Stores a file and has it ingested; poll it until its status is processed or error."""
    about = service.read_about(file.filename, purpose, speakers, columns, "file")
    service.check_size(file.size, "file")
    blob = get_store().put(file.file)
    crash_point("upload_blob_stored")
    return show(service.add_file(session, blob, about))


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_files(
    session: ReadSession, page: Paged, purpose: Annotated[str | None, Query(max_length=50)] = None
) -> ListOf:
    """All files, the newest first."""
    statement = select(File) if purpose is None else select(File).where(File.purpose == purpose)
    rows, more = page_of(session, statement, File, page)
    return ListOf(data=[show(row) for row in rows], has_more=more)


@router.get("/{file_id}", dependencies=[needs("read")], responses=responses(NotFound), response_model=FileObject)
def get(file_id: FileId, session: ReadSession, request: Request, response: Response) -> FileObject | Response:
    """One file; once its ingest has ended it never changes and carries a strong ETag."""
    file = repository.get_file(session, file_id)
    if file.status in ("processed", "error"):
        etag = f'"{file.id}"'
        if is_current(request, etag):
            return Response(status_code=304, headers={"etag": etag})
        response.headers["etag"] = etag
    return show(file)


@router.delete("/{file_id}", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def delete(file_id: FileId, session: WriteSession) -> Deleted:
    """Forgets a file from which nothing was made; its ingest ends if it is still under way."""
    file = repository.get_file(session, file_id)
    if users := repository.users_of(session, file_id):
        raise Conflict(f"the file is in use by {', '.join(users)}", code="file_in_use")
    for work in repository.open_ingests(session, file_id):
        work.state = "cancelled"
    session.delete(file)
    return Deleted(id=file_id, object="file")


@router.get(
    "/{file_id}/content", response_class=StreamingResponse, dependencies=[needs("read")], responses=responses(NotFound)
)
def content(request: Request, file_id: FileId, session: ReadSession) -> Response:
    """The file's bytes, as they were sent, or a range of them."""
    file = repository.get_file(session, file_id)
    return blob_response(request, file.sha256, file.bytes, filename=file.filename)


@router.get("/{file_id}/quarantine", dependencies=[needs("read")], responses=responses(NotFound))
def quarantine(
    file_id: FileId,
    session: ReadSession,
    after: Annotated[int, Query(ge=0, description="the last line seen")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ListOf:
    """Records that could not be read: line and reason."""
    from curation.browse import read_quarantine

    file = repository.get_file(session, file_id)
    if file.quarantine_sha256 is None:
        return ListOf(data=[], has_more=False)
    rows, more = read_quarantine(get_store().path(file.quarantine_sha256), after=after, limit=limit)
    return ListOf(data=rows, has_more=more)
