"""What routes are given: a session that commits before the answer is sent, a session that reads, a page of a list."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter
from fastapi import Depends, Query, Request
from pydantic import BaseModel
from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import REQUEST_SESSIONS, reading, writing
from app.errors import NotFound
from app.models import ApiKey, AuditEvent, Dataset, Experiment, File, Job, LearnedFilter, Lexicon, Review, Version, Work
from app.queue import send_nudges

Row = TypeVar("Row", ApiKey, AuditEvent, File, Dataset, Version, Lexicon, LearnedFilter, Job, Review, Experiment, Work)


_turns = CapacityLimiter(REQUEST_SESSIONS)


async def _turn() -> AsyncIterator[None]:
    """Bounds the sessions that are open at once.

    Between its first statement and its commit a request gives its thread back and asks for one again. If those who wait
    for its connection or its lock could hold all threads, nobody would go on until the waiting times out.
    """
    async with _turns:
        yield


TurnDep = Annotated[None, Depends(_turn, scope="function")]


def _write(request: Request, _: TurnDep) -> Iterator[Session]:
    with writing() as session:
        request.state.session = session  # where app.once keeps the answer
        yield session
    crash_point("request_committed")
    send_nudges()


def _read(_: TurnDep) -> Iterator[Session]:
    with reading() as session:
        yield session


WriteSession = Annotated[Session, Depends(_write, scope="function")]
"""Commits at the end of the route, before the answer is sent; then the outbox is handed to the broker."""
ReadSession = Annotated[Session, Depends(_read, scope="function")]


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for; lists run from the newest to the oldest."""

    after: Annotated[str | None, Query(max_length=600, description="id of the last item of the page before")] = None
    limit: Annotated[int, Query(ge=1, le=1000)] = 20


Paged = Annotated[Page, Depends()]


class ListOf(BaseModel):
    """A page of a list."""

    object: str = "list"
    data: list[Any]
    has_more: bool


def page_of(session: Session, statement: Select[Any], model: type[Row], page: Page) -> tuple[list[Row], bool]:
    """A page of rows of `model`, newest first, and whether more follow.

    Raises:
        NotFound: `after` names no row.
    """
    created = model.created_at
    if page.after is not None:
        last = session.scalar(select(model).where(model.id == page.after))
        if last is None:
            raise NotFound("`after` names nothing that exists", param="after")
        earlier = and_(created == last.created_at, model.id < last.id)
        statement = statement.where(or_(created < last.created_at, earlier))
    rows = session.scalars(statement.order_by(created.desc(), model.id.desc()).limit(page.limit + 1)).all()
    return list(rows[: page.limit]), len(rows) > page.limit
