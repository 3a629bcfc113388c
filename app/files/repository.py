"""Selects of files."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import File, LearnedFilter, RawSegment, Review, VersionFile, Work

CONVERSATIONS = ("fine-tune", "conversations")
"""Purposes of files that versions are made from."""


def get_file(session: Session, file_id: str) -> File:
    """The file, or NotFound."""
    file = session.get(File, file_id)
    if file is None:
        raise NotFound(f"there is no file {file_id}")
    return file


def users_of(session: Session, file_id: str) -> list[str]:
    """Ids of the versions, learned filters and reviews that were made from the file."""
    versions = select(VersionFile.version_id).where(VersionFile.file_id == file_id).distinct()
    filters = select(LearnedFilter.id).where(LearnedFilter.file_id == file_id)
    reviews = select(Review.id).where(Review.prompts == file_id)
    return [*session.scalars(versions), *session.scalars(filters), *session.scalars(reviews)]


def open_ingests(session: Session, file_id: str) -> list[Work]:
    """The file's ingest, if it has not ended."""
    mine = (Work.kind == "ingest", Work.subject == file_id, Work.state.in_(("pending", "leased")))
    return list(session.scalars(select(Work).where(*mine)))


def raw_segments(session: Session, file_id: str) -> list[RawSegment]:
    """The file's raw segments, in order."""
    return list(session.scalars(select(RawSegment).where(RawSegment.file_id == file_id).order_by(RawSegment.ordinal)))
