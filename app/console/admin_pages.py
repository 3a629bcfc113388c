"""Keys and the audit log, for an admin."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import select

from app.auth import SCOPES
from app.console.pages import PageRoute, SignedIn, needs_admin, render
from app.dependencies import Paged, ReadSession, page_of
from app.models import ApiKey, AuditEvent, Work

router = APIRouter(
    prefix="/console", route_class=PageRoute, include_in_schema=False, dependencies=[Depends(needs_admin)]
)


@router.get("/keys")
def keys(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """All keys; a new one is shown once."""
    rows, more = page_of(session, select(ApiKey), ApiKey, page)
    return render(request, "keys.html.jinja", keys=rows, has_more=more, scopes=sorted(SCOPES))


@router.get("/audit")
def audit(
    request: Request,
    console: SignedIn,
    session: ReadSession,
    page: Paged,
    subject: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Who changed what, the newest first."""
    chosen = select(AuditEvent).where(AuditEvent.subject == subject) if subject else select(AuditEvent)
    rows, more = page_of(session, chosen, AuditEvent, page)
    return render(request, "audit.html.jinja", events=rows, has_more=more, subject=subject)


@router.get("/dead-letters")
def dead_letters(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """Work that was given up, and why."""
    rows, more = page_of(session, select(Work).where(Work.state == "dead"), Work, page)
    return render(request, "dead_letters.html.jinja", letters=rows, has_more=more)
