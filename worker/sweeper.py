"""The sweeper: what a lost nudge or a dead worker left undone is announced again.

A thread in every worker, one of them at a time behind a lease of its own. Doing it twice is harmless: a nudge only
makes a worker look at a row.
"""

import logging
import threading

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from app.crash import crash_point
from app.db import clock_s, insert, reading, writing
from app.models import Version, Work
from app.once import forget_old_answers
from app.queue import NUDGES_AHEAD, add_nudge, num_waiting, send_nudges
from app.settings import get_settings
from worker.curating import OPEN_STATES, go_on_if_complete
from worker.experimenting import lead_experiments_on
from worker.leases import Lease, claim, expired, kept_alive, renew, worker_name
from worker.retention import plan_collection

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
                _sweep_while_leased(lease, every_s)
        except Exception as error:  # noqa: BLE001  (the edge of the thread: without it lost work stays lost)
            log.warning("sweep put off: %s", type(error).__name__)


def sweep() -> None:
    """One pass over work and outbox."""
    room = _room_in_queues()  # asks the broker, hence outside the transaction
    with writing() as session:
        for queue, most in room.items():
            _announce_abandoned(session, queue, most)
        _lead_versions_on(session)
        plan_collection(session)
        forget_old_answers(session)
        crash_point("sweep_before_commit")
    crash_point("sweep_committed")
    send_nudges()
    lead_experiments_on()


def _sweep_while_leased(lease: Lease, every_s: float) -> None:
    """The lease is not given back but left to run out soon, so that all workers together sweep once in that time."""
    try:
        with kept_alive(lease):
            sweep()
    finally:
        renew(lease, every_s / 2)


def _add_sweep_row() -> None:
    row = {"id": SWEEP, "kind": "sweep", "subject": "all", "queue": "none"}
    with writing() as session:
        session.execute(insert(Work).values(**row).on_conflict_do_nothing())


def _room_in_queues() -> dict[str, int]:
    """How many nudges each queue with abandoned work can take; none while the broker is away.

    A queue that holds enough gets no more: whoever is free finds work in it anyway.
    """
    with reading() as session:
        queues = session.scalars(select(Work.queue).where(_abandoned()).distinct()).all()
    return {queue: room for queue in queues if (room := NUDGES_AHEAD - num_waiting(queue)) > 0}


def _announce_abandoned(session: Session, queue: str, most: int) -> None:
    """Nudges work whose owner has gone, work whose nudge was lost, and work that was never announced."""
    # What was announced once has waited longest; a version's unannounced shards come in their order.
    order = (Work.nudged_at.is_(None), Work.nudged_at, Work.created_at, Work.ordinal)
    for work in session.scalars(select(Work).where(_abandoned(), Work.queue == queue).order_by(*order).limit(most)):
        add_nudge(session, work)


def _abandoned() -> ColumnElement[bool]:
    """Work that is to be had and was not announced lately; a time ahead of the clock is from before a reboot."""
    stale = or_(Work.nudged_at.is_(None), Work.nudged_at < clock_s() - get_settings().nudge_again_s)
    return and_(or_(Work.state == "pending", expired()), or_(stale, Work.nudged_at > clock_s()), Work.id != SWEEP)


def _lead_versions_on(session: Session) -> None:
    """Adds what follows in versions whose last shards committed without seeing each other."""
    open_shards = select(Work.id).where(Work.subject == Version.id, Work.state.in_(OPEN_STATES))
    complete = select(Version.id).where(Version.status == "running", ~open_shards.exists())
    for version_id in session.scalars(complete.order_by(Version.id)).all():
        go_on_if_complete(session, version_id)
