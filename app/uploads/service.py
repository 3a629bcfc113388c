"""The rules of uploads in parts: each part is checked and stored as it comes; the whole is put together at the end.

A part is a blob of the store and a row. Whoever is cut off sees by `GET /v1/uploads/{id}` which parts have come, and
goes on. Nothing is held in memory but a megabyte at a time.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import BinaryIO, cast

from sqlalchemy.orm import Session

from app.db import reading
from app.errors import BadRequest, Conflict
from app.files import service as files
from app.files.routes import show as show_file
from app.models import File, Upload, UploadPart, new_id
from app.store import BlobRef, get_store
from app.uploads import repository
from app.uploads.schemas import Completion, NewUpload, PartObject, UploadObject

OPEN_FOR_S = 24 * 3600
"""How long parts are waited for."""
MAX_PART_BYTES = 64 * 2**20
MAX_PARTS = 10_000


def create_upload(session: Session, body: NewUpload) -> Upload:
    """Records an upload whose parts are to come.

    Raises:
        BadRequest: the file will be too large, or its name is too long.
        Unprocessable: no such purpose, or maps that are none.
    """
    files.check_size(body.bytes, "bytes")
    repository.forget_parts_of_ended(session, time.time())
    about = files.read_about(body.filename, body.purpose, body.speakers, body.columns, "filename")
    upload = Upload(
        id=new_id("upload"), **vars(about), mime_type=body.mime_type, bytes=body.bytes, status="pending",
        expires_at=time.time() + OPEN_FOR_S,
    )  # fmt: skip
    session.add(upload)
    session.flush()
    return upload


def check_open(upload_id: str) -> None:
    """Refuses parts of an upload that takes none, before their bytes are stored.

    Raises:
        NotFound: there is no such upload.
        Conflict: it has ended.
    """
    with reading() as session:
        _pending(repository.get_upload(session, upload_id))


def add_part(session: Session, upload_id: str, blob: BlobRef, sha256: str | None) -> UploadPart:
    """Records a part whose bytes are stored.

    Raises:
        BadRequest: its checksum is not what was announced, or there are more bytes than the whole file has.
        Conflict: the upload has ended.
    """
    if sha256 is not None and sha256.lower() != blob.sha256:
        raise BadRequest("the part's SHA-256 is another one: send it again", param="sha256", code="checksum_mismatch")
    upload = _pending(repository.get_upload(session, upload_id, locked=True))
    count, size = repository.received(session, upload_id)
    if count >= MAX_PARTS:
        raise BadRequest(f"an upload has at most {MAX_PARTS:,} parts", param="data")
    if blob.bytes == 0 or size + blob.bytes > max(2 * upload.bytes, upload.bytes + MAX_PART_BYTES):  # parts sent again
        raise BadRequest("the part is empty, or the parts have far more bytes than were announced", param="data")
    part = UploadPart(id=new_id("part"), upload_id=upload_id, sha256=blob.sha256, bytes=blob.bytes)
    part.created_at = time.time()
    session.add(part)
    session.flush()
    return part


def put_together(upload_id: str, body: Completion) -> BlobRef | None:
    """Stores the whole file, in the order of the parts named; None where that was done before.

    Raises:
        NotFound: there is no such upload.
        BadRequest: a part is not there, or size or checksum is not what was announced.
        Conflict: the upload has ended otherwise.
    """
    with reading() as session:
        upload = repository.get_upload(session, upload_id)
        if upload.status == "completed":
            return None
        _pending(upload)
        known = {part.id: part for part in repository.parts_of(session, upload_id)}
    if len(set(body.part_ids)) != len(body.part_ids):
        raise BadRequest("part_ids: each part once", param="part_ids")
    for index, part_id in enumerate(body.part_ids):
        if part_id not in known:
            raise BadRequest(f"part_ids[{index}]: no part of this upload", param=f"part_ids[{index}]")
    parts = [known[part_id] for part_id in body.part_ids]
    if (size := sum(part.bytes for part in parts)) != upload.bytes:
        raise BadRequest(f"the parts have {size} bytes, {upload.bytes} were announced", param="part_ids")
    whole = _Joined(parts)
    blob = get_store().put(cast("BinaryIO", whole))
    for name, announced, found in (("md5", body.md5, whole.md5), ("sha256", body.sha256, blob.sha256)):
        if announced is not None and announced.lower() != found:
            raise BadRequest(f"the whole file's {name} is another one", param=name, code="checksum_mismatch")
    return blob


def complete_upload(session: Session, upload_id: str, blob: BlobRef | None) -> Upload:
    """Makes the upload a file.

    Raises:
        Conflict: it has ended otherwise meanwhile.
    """
    upload = repository.get_upload(session, upload_id, locked=True)
    if upload.status == "completed" or blob is None:
        return upload
    _pending(upload)
    about = files.About(upload.filename, upload.purpose, upload.speakers, upload.columns)
    file = files.add_file(session, blob, about)
    upload.status, upload.file_id = "completed", file.id
    repository.forget_parts_of_ended(session, time.time())
    session.flush()
    return upload


def cancel_upload(session: Session, upload_id: str) -> Upload:
    """Gives an upload up; one cancelled already stays as it is.

    Raises:
        Conflict: it is complete.
    """
    upload = repository.get_upload(session, upload_id, locked=True)
    if upload.status == "completed":
        raise Conflict("the upload is complete: delete its file instead", code="already_ended")
    upload.status = "cancelled"
    session.flush()
    repository.forget_parts_of_ended(session, time.time())
    return upload


def show_upload(session: Session, upload: Upload) -> UploadObject:
    """The upload as the API tells it."""
    file = None if upload.file_id is None else session.get(File, upload.file_id)
    status = "expired" if upload.status == "pending" and upload.expires_at <= time.time() else upload.status
    parts = repository.parts_of(session, upload.id) if status == "pending" else []
    received = upload.bytes if status == "completed" else sum(part.bytes for part in parts)
    return UploadObject(
        id=upload.id, filename=upload.filename, purpose=upload.purpose, mime_type=upload.mime_type, bytes=upload.bytes,
        bytes_received=received, status=status, parts=[show_part(part) for part in parts],
        created_at=int(upload.created_at), expires_at=int(upload.expires_at),
        file=None if file is None else show_file(file),
    )  # fmt: skip


def show_part(part: UploadPart) -> PartObject:
    """The part as the API tells it."""
    return PartObject(
        id=part.id, upload_id=part.upload_id, created_at=int(part.created_at), bytes=part.bytes, sha256=part.sha256
    )


def _pending(upload: Upload) -> Upload:
    if upload.status != "pending":
        raise Conflict(f"the upload is {upload.status}", code="already_ended")
    if upload.expires_at <= time.time():
        raise Conflict("the upload has expired: begin another one", code="expired")
    return upload


class _Joined:
    """Parts read as one file."""

    def __init__(self, parts: Sequence[UploadPart]) -> None:
        self._chunks: Iterator[bytes] = chain.from_iterable(get_store().chunks(part.sha256) for part in parts)
        self._rest = b""
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def md5(self) -> str:
        """Of what was read."""
        return self._md5.hexdigest()

    def read(self, size: int) -> bytes:
        """At most `size` bytes, often fewer; none at the end only."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
            self._md5.update(self._rest)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
