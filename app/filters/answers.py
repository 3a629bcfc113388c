"""How a learned filter is answered: with its users, and a strong ETag once it never changes but for them."""

from collections.abc import Callable
from typing import TypeVar

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.fields import is_current
from app.filters import repository
from app.filters.schemas import FilterObject
from app.models import LearnedFilter

Shown = TypeVar("Shown", bound=FilterObject)


def answer(
    session: Session,
    row: LearnedFilter,
    show: Callable[[LearnedFilter, list[str] | None], Shown],
    request: Request,
    response: Response,
) -> Shown | Response:
    """The filter as `show` tells it, or 304 for who has it; the ETag changes with its users."""
    shown = show(row, repository.versions_with(session, row.id))
    if row.status == "succeeded":
        etag = f'"{row.artefact_sha256}-{len(shown.used_by or [])}"'
        if is_current(request, etag):
            return Response(status_code=304, headers={"etag": etag})
        response.headers["etag"] = etag
    return shown
