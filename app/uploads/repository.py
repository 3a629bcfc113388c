"""Selects of uploads and their parts."""

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Upload, UploadPart


def get_upload(session: Session, upload_id: str, *, locked: bool = False) -> Upload:
    """The upload, or NotFound."""
    upload = session.get(Upload, upload_id, with_for_update=locked or None)
    if upload is None:
        raise NotFound(f"there is no upload {upload_id}")
    return upload


def parts_of(session: Session, upload_id: str) -> list[UploadPart]:
    """An upload's parts in the order in which they came."""
    mine = select(UploadPart).where(UploadPart.upload_id == upload_id)
    return list(session.scalars(mine.order_by(UploadPart.created_at, UploadPart.id)))


def received(session: Session, upload_id: str) -> tuple[int, int]:
    """How many parts an upload has, and how many bytes they have together."""
    mine = select(func.count(), func.coalesce(func.sum(UploadPart.bytes), 0)).where(UploadPart.upload_id == upload_id)
    count, size = session.execute(mine).one()
    return int(count), int(size)


def forget_parts_of_ended(session: Session, now: float) -> None:
    """Deletes parts that nobody can ask for any more, so that their blobs can be collected."""
    pending: ColumnElement[bool] = Upload.status == "pending"
    ended = select(Upload.id).where(or_(~pending, Upload.expires_at <= now))
    session.execute(delete(UploadPart).where(UploadPart.upload_id.in_(ended)))
