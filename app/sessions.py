"""The request's database session: one commit, before the response leaves, and then the nudges."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from app.db import reading, writing
from app.queue import send_nudges


def _reading() -> Iterator[Session]:
    with reading() as session:
        yield session


def _writing() -> Iterator[Session]:
    with writing() as session:
        yield session
    send_nudges()


ReadSession = Annotated[Session, Depends(_reading, scope="function")]
"""Sees one state of the database, never waits for a writer."""
WriteSession = Annotated[Session, Depends(_writing, scope="function")]
"""Commits when the route returns, rolls back when it raises; new work is announced after the commit."""
