"""Lists as the API shows them, and their one order: newest first."""

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Session

from app.errors import UnprocessableError
from app.models import ApiKey, Dataset, File, Job, JobCheckpoint, Lexicon, Version

T = TypeVar("T")
Row = TypeVar("Row", ApiKey, Dataset, File, Job, JobCheckpoint, Lexicon, Version)


class ListPage(BaseModel, Generic[T]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    last_id: str | None
    """What `after` takes to get the next page."""


class Deleted(BaseModel):
    """What is gone."""

    id: str
    object: str
    deleted: Literal[True] = True


def newest_first(
    session: Session, model: type[Row], *where: ColumnElement[bool], after: str | None, limit: int
) -> tuple[Sequence[Row], bool]:
    """A page of a table, newest first, and whether more follow. The one select that all lists share.

    Raises:
        UnprocessableError: `after` names no row.
    """
    statement = select(model).where(*where).order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)
    if after is not None:
        last = session.get(model, after)
        if last is None:
            raise UnprocessableError("`after` names nothing in this list", param="after")
        statement = statement.where(tuple_(model.created_at, model.id) < (last.created_at, last.id))
    rows = session.scalars(statement).all()
    return rows[:limit], len(rows) > limit
