"""Selects of files."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import File, RawSegment, VersionFile


def get_file(session: Session, file_id: str) -> File:
    """The file, or NotFound."""
    file = session.get(File, file_id)
    if file is None:
        raise NotFound(f"there is no file {file_id}")
    return file


def users_of(session: Session, file_id: str) -> list[str]:
    """Ids of the versions that were made from the file."""
    statement = select(VersionFile.version_id).where(VersionFile.file_id == file_id).distinct()
    return list(session.scalars(statement))


def raw_segments(session: Session, file_id: str) -> list[RawSegment]:
    """The file's raw segments, in order."""
    return list(session.scalars(select(RawSegment).where(RawSegment.file_id == file_id).order_by(RawSegment.ordinal)))
