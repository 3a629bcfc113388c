"""Writing the audit log: in the very transaction that makes the change, so that neither is ever without the other.

What is kept is who (the key), what (the route or command), of which resource, whence; never a body, so no user's text.
The database itself refuses to change or delete an entry.
"""

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.models import ApiKey, AuditEvent


def record(session: Session, request: Request, response: Response, subject: str | None) -> None:
    """A request changes something: adds the entry to its transaction."""
    key: ApiKey = request.state.key
    session.add(
        AuditEvent(
            key_id=key.id,
            key_name=key.name,
            action=f"{request.method} {request.scope['route'].path_format}",
            subject=subject,
            status=response.status_code,
            request_id=getattr(request.state, "request_id", None),
            address=request.client.host if request.client else None,
        )
    )


def record_command(session: Session, command: str, subject: str) -> None:
    """A command of the service's operator changes something."""
    session.add(AuditEvent(action=command, subject=subject))
