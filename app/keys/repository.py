"""Rows of API keys."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models import ApiKey
from app.paging import newest_first


def key_by_hash(session: Session, digest: str) -> ApiKey | None:
    """The key with this SHA-256."""
    return session.scalar(select(ApiKey).where(ApiKey.hash == digest))


def list_keys(session: Session, *, after: str | None, limit: int) -> tuple[Sequence[ApiKey], bool]:
    """All keys, revoked ones too."""
    return newest_first(session, ApiKey, after=after, limit=limit)
