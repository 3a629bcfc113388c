"""The audit log is read by an admin; nobody changes it."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, page_of
from app.errors import NotFound, responses
from app.models import AuditEvent

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditEntry(BaseModel):
    """A change of state."""

    id: str
    object: str = "audit.entry"
    created_at: int
    key_id: str | None
    """null for a command of the service's operator."""
    key_name: str | None
    action: str
    """Method and route, or the command."""
    subject: str | None
    """Id of what was made or changed."""
    status: int | None
    request_id: str | None
    address: str | None


@router.get("", dependencies=[needs("admin")], responses=responses(NotFound))
def list_entries(
    session: ReadSession,
    page: Paged,
    subject: Annotated[str | None, Query(max_length=200, description="of this resource only")] = None,
    key: Annotated[str | None, Query(max_length=200, description="by this key only")] = None,
) -> ListOf:
    """Every change of state that somebody brought about, the newest first; entries are never changed or deleted."""
    statement = select(AuditEvent)
    if subject is not None:
        statement = statement.where(AuditEvent.subject == subject)
    if key is not None:
        statement = statement.where(AuditEvent.key_id == key)
    rows, more = page_of(session, statement, AuditEvent, page)
    return ListOf(data=[_show(row) for row in rows], has_more=more)


def _show(row: AuditEvent) -> AuditEntry:
    return AuditEntry(
        id=row.id, created_at=int(row.created_at), key_id=row.key_id, key_name=row.key_name, action=row.action,
        subject=row.subject, status=row.status, request_id=row.request_id, address=row.address,
    )  # fmt: skip
