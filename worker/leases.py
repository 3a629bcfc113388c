"""Leases on work rows: whoever holds one may do the work and commit its result, nobody else.

A claim is one conditional UPDATE in the database's own time. The fence grows with every claim; a result is committed
only `WHERE owner = me AND fence = mine`, so a worker that slept past its lease changes nothing. A heartbeat thread
renews the lease while the work runs.
"""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, and_, case, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from app.db import clock_s, writing
from app.models import Json, Work
from app.queue import add_nudge
from app.settings import get_settings

log = logging.getLogger(__name__)

OUTLIVES_WORKERS = ("train", "sweep")
"""Kinds of work that are taken over again and again by nature: a claim of theirs uses up no attempt."""

BEATS_PER_LEASE = 3
"""Two heartbeats may fail before anybody else can take the work."""


class LeaseLostError(RuntimeError):
    """Somebody else owns the work now, or it was cancelled: drop what was done."""


@dataclass(frozen=True)
class Lease:
    """The right to do one piece of work, as of one claim."""

    work_id: str
    kind: str
    subject: str
    ordinal: int
    payload: Json
    owner: str
    fence: int
    attempt: int


def worker_name() -> str:
    """Names this process in leases."""
    return f"{socket.gethostname()}:{os.getpid()}"


def expired() -> ColumnElement[bool]:
    """The condition that a leased row's owner has gone; a lease far in the future is from before a reboot."""
    far = clock_s() + 2 * get_settings().lease_s
    return and_(Work.state == "leased", or_(Work.lease_until < clock_s(), Work.lease_until > far))


def claim(work_id: str, owner: str) -> Lease | None:
    """Takes the work if it is pending or its owner's lease has run out; None if it is not to be had."""
    statement = (
        update(Work)
        .where(Work.id == work_id, or_(Work.state == "pending", expired()))
        .values(
            state="leased",
            owner=owner,
            fence=Work.fence + 1,
            attempt=case((Work.kind.in_(OUTLIVES_WORKERS), Work.attempt), else_=Work.attempt + 1),
            lease_until=clock_s() + get_settings().lease_s,
        )
        .returning(Work)
        .execution_options(synchronize_session=False)
    )
    with writing() as session:
        work = session.execute(statement).scalar_one_or_none()
        if work is None:
            return None
        return Lease(
            work.id, work.kind, work.subject, work.ordinal, work.payload, owner, fence=work.fence, attempt=work.attempt
        )


def finish(session: Session, lease: Lease, result: Json) -> None:
    """Marks the work done inside the transaction that publishes its result.

    Raises:
        LeaseLostError: the lease is no longer ours; the transaction must not commit.
    """
    _update_held(session, lease, state="done", result=result, error=None, owner=None, lease_until=None)


def give_back(lease: Lease, *, nudge: bool, error: str | None = None, counts_as_attempt: bool = False) -> None:
    """Returns unfinished work to the pool: after a fault that may pass, at shutdown, or while it has to wait.

    Raises:
        LeaseLostError: the lease is no longer ours.
    """
    counted_by_claim = 0 if lease.kind in OUTLIVES_WORKERS else 1
    attempt = lease.attempt - counted_by_claim + int(counts_as_attempt)
    with writing() as session:
        _update_held(session, lease, state="pending", owner=None, lease_until=None, error=error, attempt=attempt)
        if nudge:
            add_nudge(session, session.get_one(Work, lease.work_id))


def renew(lease: Lease, for_s: float | None = None) -> None:
    """Lets the lease end `for_s` from now, a whole lease's time by default.

    Raises:
        LeaseLostError: the lease is no longer ours.
    """
    until = clock_s() + (get_settings().lease_s if for_s is None else for_s)
    with writing() as session:
        _update_held(session, lease, lease_until=until)


def check_held(session: Session, lease: Lease) -> None:
    """Keeps the lease ours until the session's transaction ends, so that what it writes is fenced too.

    Raises:
        LeaseLostError: the lease is no longer ours; the transaction must not commit.
    """
    if session.scalar(select(Work.id).where(*_held(lease)).with_for_update()) is None:
        raise LeaseLostError(f"lease of {lease.work_id} (fence {lease.fence}) is gone")


def bury(session: Session, lease: Lease, error: str) -> None:
    """Dead-letters the work: it will not be tried again."""
    _update_held(session, lease, state="dead", owner=None, lease_until=None, error=error)


def _update_held(session: Session, lease: Lease, **values: Any) -> None:
    statement = update(Work).where(*_held(lease)).values(**values).execution_options(synchronize_session=False)
    outcome = session.execute(statement)
    assert isinstance(outcome, CursorResult)
    if outcome.rowcount != 1:
        raise LeaseLostError(f"lease of {lease.work_id} (fence {lease.fence}) is gone")


def _held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return Work.id == lease.work_id, Work.state == "leased", Work.owner == lease.owner, Work.fence == lease.fence


@contextmanager
def kept_alive(lease: Lease) -> Iterator[threading.Event]:
    """Renews the lease from a thread while the block runs; the event is set when the lease is lost."""
    lost, over = threading.Event(), threading.Event()
    every_s = get_settings().lease_s / BEATS_PER_LEASE

    def beat() -> None:
        while not over.wait(every_s):
            try:
                renew(lease)
            except LeaseLostError:
                lost.set()
                return
            except SQLAlchemyError as error:  # the database is away: the lease may outlive the outage
                log.warning("no heartbeat for %s: %s", lease.work_id, type(error).__name__)

    thread = threading.Thread(target=beat, name=f"heartbeat-{lease.work_id}", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join()
