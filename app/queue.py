"""Work is rows; a queue message is only a nudge to look at one.

`add_work` writes the row and, in the same transaction, an outbox row. `send_nudges` runs after the commit and hands
outbox rows to the broker; what it cannot send, the sweeper sends later. A lost or doubled nudge changes nothing.
"""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import reading, writing
from app.models import Outbox, Work, new_id
from app.settings import get_settings

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

DO_WORK = "talkmill.do_work"
"""The one task name: claim the work row of the given id and do it."""


def celery_options() -> dict[str, Any]:
    """Settings shared by producer and workers: nudges are acknowledged early, leases recover what is lost."""
    return {
        "task_ignore_result": True,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "broker_connection_retry_on_startup": True,
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


def add_nudge(session: Session, work: Work) -> None:
    """Announces existing work once more."""
    session.add(Outbox(work_id=work.id, queue=work.queue))


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
