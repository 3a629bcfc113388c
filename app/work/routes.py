"""Dead letters: work that was given up, and why; what depends on it has failed with the same reason."""

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import select

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, page_of
from app.errors import NotFound, responses
from app.models import Work

router = APIRouter(prefix="/v1/dead_letters", tags=["work"])


class DeadLetter(BaseModel):
    """A piece of work that will not be tried again."""

    id: str
    object: str = "dead_letter"
    kind: str
    """ingest, plan, curate, join, close, learn, learn_reward, review or train"""
    subject: str
    """The file, version, filter, review or job that it was for."""
    ordinal: int
    """Which segment of a version."""
    attempts: int
    reason: str | None
    created_at: int


@router.get("", dependencies=[needs("admin")], responses=responses(NotFound))
def list_dead_letters(session: ReadSession, page: Paged) -> ListOf:
    """All dead letters, the newest first."""
    rows, more = page_of(session, select(Work).where(Work.state == "dead"), Work, page)
    return ListOf(data=[_show(row) for row in rows], has_more=more)


def _show(work: Work) -> DeadLetter:
    return DeadLetter(
        id=work.id, kind=work.kind, subject=work.subject, ordinal=work.ordinal, attempts=work.attempt,
        reason=work.error, created_at=int(work.created_at),
    )  # fmt: skip
