"""From a nudge to done work: claim, heartbeat, the handler of its kind, and what follows when it fails."""

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import writing
from app.queue import send_nudges
from app.settings import get_settings
from curation.errors import CurationError
from worker import curating, learning, supervisor
from worker.curating import CannotBeDoneError
from worker.leases import Lease, LeaseLostError, bury, claim, give_back, kept_alive, worker_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Handler:
    """How one kind of work is done, and how its subject fails when it cannot be."""

    do: Callable[[Lease, threading.Event], None]
    """Does the work; the event is set when the lease is lost."""
    fail: Callable[[Session, Lease, str], None]
    limits_attempts: bool = True
    """Whether claims are counted; taking over a training job is no fault of the job."""


HANDLERS = {
    "ingest": Handler(lambda lease, _: curating.ingest_file(lease), curating.fail_file),
    "plan": Handler(lambda lease, _: curating.plan_version(lease), curating.fail_version),
    "curate": Handler(lambda lease, _: curating.curate_shard(lease), curating.fail_version),
    "close": Handler(lambda lease, _: curating.close(lease), curating.fail_version),
    "learn": Handler(learning.learn, learning.fail_filter),
    "train": Handler(supervisor.train, supervisor.fail_job, limits_attempts=False),
}


def do(work_id: str) -> None:
    """Does a piece of work if it can be claimed, and hands out the nudges that follow from it."""
    lease = claim(work_id, worker_name())
    if lease is None:
        return
    crash_point("work_claimed")
    log.info("%s %s/%d: attempt %d", lease.kind, lease.subject, lease.ordinal, lease.attempt)
    try:
        _attempt(lease, HANDLERS[lease.kind])
    except LeaseLostError:
        log.warning("%s %s/%d: lease lost, result dropped", lease.kind, lease.subject, lease.ordinal)
    finally:
        send_nudges()


def _attempt(lease: Lease, handler: Handler) -> None:
    max_attempts = get_settings().max_attempts
    if handler.limits_attempts and lease.attempt > max_attempts:
        _give_up(lease, handler, f"its worker died {max_attempts} times")
        return
    try:
        with kept_alive(lease) as lost:
            handler.do(lease, lost)
    except LeaseLostError:
        raise
    except (CurationError, CannotBeDoneError) as error:
        _give_up(lease, handler, str(error))
    except Exception as error:  # noqa: BLE001  (the edge of the task: whatever it was, the work must not get lost)
        # The message may quote a user's text: only the type and the frames are logged.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s %s/%d: %s\n%s", lease.kind, lease.subject, lease.ordinal, type(error).__name__, frames)
        reason = f"internal error ({type(error).__name__}) in {lease.kind} after {lease.attempt} attempts"
        if lease.attempt >= max_attempts:
            _give_up(lease, handler, reason)
        else:
            give_back(lease, nudge=True, error=reason, counts_as_attempt=True)


def _give_up(lease: Lease, handler: Handler, error: str) -> None:
    with writing() as session:
        bury(session, lease, error)
        handler.fail(session, lease, error)
