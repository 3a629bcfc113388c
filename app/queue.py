"""Work is rows; a queue message is only a nudge to look at one.

`add_work` writes the row and, in the same transaction, an outbox row. `send_nudges` runs after the commit and hands
outbox rows to the broker; what it cannot send, the sweeper sends later. A lost or doubled nudge changes nothing, so
there are never many more of them than workers can take: of ten thousand shards the first few are announced, and every
finished one announces another.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import clock_s, reading, writing
from app.models import Outbox, Work, new_id
from app.settings import get_settings

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

DO_WORK = "talkmill.do_work"
"""The one task name: claim the work row of the given id and do it."""
NUDGES_AHEAD = 64
"""Announced work of a queue that nobody has claimed yet: enough for as many workers to find something at once."""
UNSYNCHRONISED: dict[str, Any] = {"synchronize_session": False}


def celery_options() -> dict[str, Any]:
    """Settings shared by producer and workers: nudges are acknowledged early, leases recover what is lost."""
    return {
        "task_ignore_result": True,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a worker waits out an outage, however long
        "broker_transport_options": {"socket_connect_timeout": 3, "socket_timeout": 30, "socket_keepalive": True},
        "task_publish_retry": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
    }


@lru_cache(maxsize=1)
def _producer() -> "Celery":
    from celery import Celery

    producer = Celery("talkmill", broker=get_settings().broker_url, set_as_current=False)
    producer.conf.update(celery_options())
    # A request must not wait for a broker that is away: the sweeper sends what is left.
    producer.conf.broker_transport_options = {**producer.conf.broker_transport_options, "max_retries": 0}
    return producer


def add_work(
    session: Session,
    kind: str,
    subject: str,
    *,
    ordinal: int = 0,
    queue: str = "curate",
    payload: Mapping[str, Any] | None = None,
) -> Work:
    """Adds a piece of work and its nudge to the session's transaction."""
    work = Work(
        id=new_id("work"), kind=kind, subject=subject, ordinal=ordinal, queue=queue, payload=dict(payload or {})
    )
    session.add(work)
    add_nudge(session, work)
    return work


def add_shards(
    session: Session,
    kind: str,
    subject: str,
    payloads: Sequence[Mapping[str, Any]],
    *,
    first: int = 0,
    queue: str = "curate",
) -> None:
    """Adds one piece of work for each payload, numbered from `first`, in one statement.

    Only the first `NUDGES_AHEAD` are announced; `announce_next` does the rest, as they are finished.
    """
    if not payloads:
        return
    same = {"kind": kind, "subject": subject, "queue": queue}
    rows = [
        {**same, "id": new_id("work"), "ordinal": ordinal, "payload": dict(payload)}
        for ordinal, payload in enumerate(payloads, first)
    ]
    session.execute(insert(Work), rows)
    announced = select(Work.id, Work.queue).where(Work.kind == kind, Work.subject == subject)
    _announce(session, announced.where(Work.ordinal.between(first, first + NUDGES_AHEAD - 1)).order_by(Work.ordinal))


def announce_next(session: Session, kind: str, subject: str, ordinal: int) -> None:
    """Announces the shard that waits `NUDGES_AHEAD` behind the one that has just been finished, if there is one."""
    waiting = select(Work.id, Work.queue).where(
        Work.kind == kind,
        Work.subject == subject,
        Work.ordinal == ordinal + NUDGES_AHEAD,
        Work.state == "pending",
        Work.nudged_at.is_(None),
    )
    _announce(session, waiting)


def add_nudge(session: Session, work: Work) -> None:
    """Announces existing work once more."""
    work.nudged_at = clock_s()  # the database's own time
    session.add(Outbox(work_id=work.id, queue=work.queue))


def num_waiting(queue: str) -> int:
    """How many nudges of a queue the broker holds; as many as there may be while it is away and can take none."""
    from kombu.exceptions import OperationalError

    connection = _producer().connection_for_read()
    try:
        with connection:
            return int(connection.default_channel.queue_declare(queue).message_count)
    except (OperationalError, *connection.connection_errors) as error:
        log.warning("broker does not answer: %s", type(error).__name__)
        return NUDGES_AHEAD


def _announce(session: Session, found: "Select[str, str]") -> None:
    works = session.execute(found).all()
    if works:
        session.execute(insert(Outbox), [{"work_id": id_, "queue": queue} for id_, queue in works])
        mine = Work.id.in_([id_ for id_, _ in works])
        session.execute(update(Work).where(mine).values(nudged_at=clock_s()).execution_options(**UNSYNCHRONISED))


def send_nudges(limit: int = 1000) -> int:
    """Hands waiting outbox rows to the broker, oldest first, and deletes those it took; returns how many.

    A broker that is away is no error: the rows stay for the sweeper.
    """
    from kombu.exceptions import OperationalError

    sent: list[int] = []
    with reading() as session:
        waiting = session.execute(select(Outbox).order_by(Outbox.seq).limit(limit)).scalars().all()
    try:
        for row in waiting:
            _producer().send_task(DO_WORK, args=[row.work_id], queue=row.queue, ignore_result=True)
            sent.append(row.seq)
    except (OperationalError, OSError) as error:
        log.warning("broker does not answer, %d nudges wait: %s", len(waiting) - len(sent), type(error).__name__)
    if sent:
        crash_point("nudges_sent")
        with writing() as session:
            session.execute(delete(Outbox).where(Outbox.seq.in_(sent)))
    return len(sent)
