"""Uploads in parts, as in the OpenAI Uploads API: for files that a connection does not live long enough for."""

from typing import Annotated

from fastapi import APIRouter, Form, Path, UploadFile
from fastapi import File as FileField

from app.auth import needs
from app.dependencies import ReadSession, WriteSession
from app.errors import BadRequest, Conflict, NotFound, responses
from app.once import OnceRoute
from app.store import get_store
from app.uploads import repository, service
from app.uploads.schemas import Completion, NewUpload, PartObject, UploadObject

router = APIRouter(prefix="/v1/uploads", tags=["files"], route_class=OnceRoute)
UploadId = Annotated[str, Path(pattern=r"^upload-[0-9a-f]{24}$")]


@router.post("", dependencies=[needs("curate")], responses=responses(BadRequest))
def create(body: NewUpload, session: WriteSession) -> UploadObject:
    """Begins a file that comes in parts of at most 64 MiB, within a day."""
    return service.show_upload(session, service.create_upload(session, body))


@router.get("/{upload_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get(upload_id: UploadId, session: ReadSession) -> UploadObject:
    """One upload, with the parts that have come."""
    return service.show_upload(session, repository.get_upload(session, upload_id))


@router.post(
    "/{upload_id}/parts", dependencies=[needs("curate")], responses=responses(BadRequest, NotFound, Conflict)
)  # fmt: skip
def add_part(
    upload_id: UploadId,
    data: Annotated[UploadFile, FileField(description="the part's bytes")],
    session: WriteSession,
    sha256: Annotated[str | None, Form(description="of the part, checked if given", max_length=64)] = None,
) -> PartObject:
    """Stores a part; several may come at once, in any order."""
    service.check_open(upload_id)
    blob = get_store().put(data.file)
    return service.show_part(service.add_part(session, upload_id, blob, sha256))


@router.post(
    "/{upload_id}/complete", dependencies=[needs("curate")], responses=responses(BadRequest, NotFound, Conflict)
)
def complete(upload_id: UploadId, body: Completion, session: WriteSession) -> UploadObject:
    """Puts the parts together in the order named, checks the whole, and has it ingested as a file."""
    blob = service.put_together(upload_id, body)
    return service.show_upload(session, service.complete_upload(session, upload_id, blob))


@router.post("/{upload_id}/cancel", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def cancel(upload_id: UploadId, session: WriteSession) -> UploadObject:
    """Gives an upload up and forgets its parts."""
    return service.show_upload(session, service.cancel_upload(session, upload_id))
