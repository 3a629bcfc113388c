"""Uploads, as in the OpenAI Files API, with what ingest made of them."""

import json
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Form, Path, Query, Request, Response, UploadFile
from fastapi import File as FileField
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import select

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import BadRequest, Conflict, NotFound, Unprocessable, responses
from app.fields import is_current
from app.files import repository
from app.models import File, new_id
from app.queue import add_work
from app.settings import get_settings
from app.store import CHUNK_BYTES, get_store

router = APIRouter(prefix="/v1/files", tags=["files"])
Purpose = Literal["fine-tune", "conversations"]
ROLES = ("user", "assistant", "system", "ignore")
MAX_FILENAME = 255
FileId = Annotated[str, Path(pattern=r"^file-[0-9a-f]{24}$")]


class Counts(BaseModel):
    """What ingest found."""

    conversations: int = 0
    turns: int = 0
    quarantined: int = 0


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
    counts: Counts
    warnings: list[str]


class Deleted(BaseModel):
    """A thing that is gone."""

    id: str
    object: str
    deleted: bool = True


def show(file: File) -> FileObject:
    """The file as the API tells it."""
    return FileObject(
        id=file.id, bytes=file.bytes, created_at=int(file.created_at), filename=file.filename, purpose=file.purpose,
        status=file.status, status_details=file.status_details, sha256=file.sha256, format=file.format,
        counts=Counts(**file.counts), warnings=file.warnings,
    )  # fmt: skip


@router.post("", dependencies=[needs("curate")], responses=responses(BadRequest))
def upload(
    file: Annotated[UploadFile, FileField(description="the file's bytes")],
    purpose: Annotated[str, Form(description="conversations or fine-tune")],
    session: WriteSession,
    speakers: Annotated[str | None, Form(description="JSON: speaker name → role or ignore")] = None,
) -> FileObject:
    """Stores a file of conversations and has it ingested; poll it until its status is processed or error."""
    if purpose not in get_args(Purpose):
        raise Unprocessable(f"purpose: one of {', '.join(get_args(Purpose))}", param="purpose")
    mapping = _speakers(speakers)
    filename = FilePath(file.filename or "").name.strip(".") or "upload"
    if len(filename) > MAX_FILENAME:
        raise BadRequest(f"the file's name is longer than {MAX_FILENAME} characters", param="file")
    if not file.size:
        raise BadRequest("the file is empty", param="file", code="empty_file")
    if file.size > get_settings().max_upload_bytes:
        raise BadRequest(f"the file is larger than {get_settings().max_upload_bytes} bytes", param="file")
    blob = get_store().put(file.file)
    row = File(
        id=new_id("file"), purpose=purpose, filename=filename, bytes=blob.bytes, sha256=blob.sha256, speakers=mapping,
        status="uploaded", counts={}, warnings=[],
    )  # fmt: skip
    session.add(row)
    add_work(session, "ingest", row.id)
    session.flush()
    return show(row)


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_files(
    session: ReadSession, page: Paged, purpose: Annotated[str | None, Query(max_length=50)] = None
) -> ListOf:
    """All files, the newest first."""
    statement = select(File) if purpose is None else select(File).where(File.purpose == purpose)
    rows, more = page_of(session, statement, File, page)
    return ListOf(data=[show(row) for row in rows], has_more=more)


@router.get("/{file_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get(file_id: FileId, session: ReadSession) -> FileObject:
    """One file."""
    return show(repository.get_file(session, file_id))


@router.delete("/{file_id}", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def delete(file_id: FileId, session: WriteSession) -> Deleted:
    """Forgets a file that no version was made from."""
    file = repository.get_file(session, file_id)
    if users := repository.users_of(session, file_id):
        raise Conflict(f"the file is in use by {', '.join(users)}", code="file_in_use")
    session.delete(file)
    return Deleted(id=file_id, object="file")


@router.get(
    "/{file_id}/content", response_class=StreamingResponse, dependencies=[needs("read")], responses=responses(NotFound)
)
def content(request: Request, file_id: FileId, session: ReadSession) -> Response:
    """The file's bytes, as they were sent."""
    file = repository.get_file(session, file_id)
    if is_current(request, f'"{file.sha256}"'):
        return Response(status_code=304, headers={"etag": f'"{file.sha256}"'})
    headers = {"content-length": str(file.bytes), "content-disposition": "attachment", "etag": f'"{file.sha256}"'}
    return StreamingResponse(_chunks(get_store().path(file.sha256)), 200, headers, "application/octet-stream")


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


def _chunks(path: FilePath) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _speakers(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        mapping = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        mapping = None
    if not isinstance(mapping, dict) or any(role not in ROLES for role in mapping.values()):
        raise Unprocessable(f"speakers: a JSON object of speaker name to one of {', '.join(ROLES)}", param="speakers")
    return mapping
