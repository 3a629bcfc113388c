"""The sweeper: what a lost nudge or a dead worker left undone is announced again.

A thread in every worker, one of them at a time behind a lease of its own. Doing it twice is harmless: a nudge only
makes a worker look at a row.
"""

import logging
import threading

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import clock_s, get_engine, writing
from app.models import Version, Work
from app.once import forget_old_answers
from app.queue import add_nudge, send_nudges
from app.settings import get_settings
from worker.curating import close_if_complete
from worker.leases import Lease, LeaseLostError, claim, expired, give_back, worker_name

log = logging.getLogger(__name__)

SWEEP = "work-sweep"
"""Id of the work row whose lease decides who sweeps."""


def sweep_forever(stopping: threading.Event) -> None:
    """Sweeps until the worker stops; an outage of database or broker is waited out."""
    every_s = get_settings().sweep_every_s
    row_exists = False
    while not stopping.wait(every_s):
        try:
            if not row_exists:
                _add_sweep_row()
                row_exists = True
            lease = claim(SWEEP, f"{worker_name()}:sweeper")
            if lease is not None:
                _sweep_while_leased(lease)
        except (SQLAlchemyError, LeaseLostError) as error:
            log.warning("sweep put off: %s", type(error).__name__)


def sweep() -> None:
    """One pass over work and outbox."""
    with writing() as session:
        _announce_abandoned(session)
        _close_complete_versions(session)
        forget_old_answers(session)
        crash_point("sweep_before_commit")
    crash_point("sweep_committed")
    send_nudges()


def _sweep_while_leased(lease: Lease) -> None:
    try:
        sweep()
    finally:
        give_back(lease, nudge=False)


def _add_sweep_row() -> None:
    insert = postgresql.insert if get_engine().dialect.name == "postgresql" else sqlite.insert
    row = {"id": SWEEP, "kind": "sweep", "subject": "all", "queue": "none"}
    with writing() as session:
        session.execute(insert(Work).values(**row).on_conflict_do_nothing())


def _announce_abandoned(session: Session) -> None:
    """Nudges pending work that nobody took for a while and leased work whose owner has gone."""
    now = clock_s()
    stale = or_(Work.nudged_at < now - get_settings().nudge_again_s, Work.nudged_at > now)
    abandoned = select(Work).where(or_(Work.state == "pending", expired()), stale, Work.id != SWEEP)
    for work in session.execute(abandoned.limit(1000)).scalars():
        add_nudge(session, work)
        session.execute(update(Work).where(Work.id == work.id).values(nudged_at=now))


def _close_complete_versions(session: Session) -> None:
    """Adds the closing work of versions whose last shards committed without seeing each other."""
    running = select(Version.id).where(Version.status == "running")
    for version_id in session.execute(running).scalars().all():
        close_if_complete(session, version_id)
