"""From a nudge to done work: claim, heartbeat, the handler of its kind, and what follows when it fails."""

import errno
import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import writing
from app.queue import send_nudges
from app.settings import get_settings
from app.store import StoreUnavailableError
from curation.errors import CurationError
from worker import curating, experiment_report, experimenting, learning, retention, reviewing, rewarding, supervisor
from worker.celery_app import stopping
from worker.curating import CannotBeDoneError
from worker.leases import OUTLIVES_WORKERS, Lease, LeaseLostError, bury, claim, give_back, kept_alive, worker_name

log = logging.getLogger(__name__)


GRACE_S = 12.0
"""How long a worker that is told to stop may go on with its piece of work before it gives it back unfinished."""
OUTAGE_PAUSE_S = 2.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WATCH_S = 0.5


@dataclass(frozen=True)
class Handler:
    """How one kind of work is done, and how its subject fails when it cannot be."""

    do: Callable[[Lease, threading.Event], None]
    """Does the work; the event is set when the lease is lost."""
    fail: Callable[[Session, Lease, str], None]


HANDLERS = {
    "ingest": Handler(lambda lease, _: curating.ingest_file(lease), curating.fail_file),
    "plan": Handler(lambda lease, _: curating.plan_version(lease), curating.fail_version),
    "curate": Handler(lambda lease, _: curating.curate_shard(lease), curating.fail_version),
    "join": Handler(lambda lease, _: curating.join(lease), curating.fail_version),
    "close": Handler(lambda lease, _: curating.close(lease), curating.fail_version),
    "learn": Handler(learning.learn, learning.fail_filter),
    "learn_reward": Handler(rewarding.learn_reward, learning.fail_filter),
    "review": Handler(reviewing.answer_prompts, reviewing.fail_review),
    "collect": Handler(lambda lease, _: retention.collect_store(lease), lambda *_: None),
    "train": Handler(supervisor.train, supervisor.fail_job),
    "hold_out": Handler(lambda lease, _: experimenting.hold_out(lease), experimenting.fail_experiment),
    "score": Handler(experimenting.score_run, experimenting.fail_run),
    "report": Handler(lambda lease, _: experiment_report.report(lease), experimenting.fail_experiment),
}


def do(work_id: str) -> None:
    """Does a piece of work if it can be claimed, and hands out the nudges that follow from it."""
    lease = claim(work_id, worker_name())
    if lease is None:
        return
    crash_point("work_claimed")
    log.info("%s %s/%d: attempt %d", lease.kind, lease.subject, lease.ordinal, lease.attempt)
    try:
        with _ended_in_time(lease):
            _attempt(lease, HANDLERS[lease.kind])
        send_nudges()
    except LeaseLostError:
        log.warning("%s %s/%d: lease lost, result dropped", lease.kind, lease.subject, lease.ordinal)
    except DBAPIError as error:
        # What was to be committed is undone, or the nudges wait in the outbox: the sweeper will see to both.
        log.warning("%s %s/%d: %s", lease.kind, lease.subject, lease.ordinal, type(error).__name__)


def _attempt(lease: Lease, handler: Handler) -> None:
    max_attempts = get_settings().max_attempts
    if lease.attempt > max_attempts:
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
        if isinstance(error, OperationalError | StoreUnavailableError) or _has_no_room(error):
            log.warning("%s %s/%d: %s", lease.kind, lease.subject, lease.ordinal, type(error).__name__)
            _give_back_after_outage(lease)
            return
        # The message may quote a user's text: only the type and the frames are logged.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s %s/%d: %s\n%s", lease.kind, lease.subject, lease.ordinal, type(error).__name__, frames)
        num_faults = lease.attempt + (1 if lease.kind in OUTLIVES_WORKERS else 0)
        reason = f"internal error ({type(error).__name__}) in {lease.kind} after {num_faults} attempts"
        if num_faults >= max_attempts:
            _give_up(lease, handler, reason)
        else:
            give_back(lease, nudge=True, error=reason, counts_as_attempt=True)


def _has_no_room(error: Exception) -> bool:
    """Whether this machine's disk is full, or a quota; libraries in native code tell the number in the message only."""
    if not isinstance(error, OSError):
        return False
    return error.errno in NO_ROOM or any(f"(os error {number})" in str(error) for number in NO_ROOM)


def _give_up(lease: Lease, handler: Handler, error: str) -> None:
    """Buries the work and lets its subject fail; locks the subject first, as those do who cancel it."""
    log.error("%s %s/%d: dead after %d attempts", lease.kind, lease.subject, lease.ordinal, lease.attempt)
    error = error.replace("\x00", "\\0")  # which PostgreSQL takes in no text
    with writing() as session:
        handler.fail(session, lease, error)
        session.flush()
        bury(session, lease, error)


def _give_back_after_outage(lease: Lease) -> None:
    """Waits a little, and for the database; an outage is no fault of the work and uses up no attempt."""
    while not stopping.wait(OUTAGE_PAUSE_S):
        try:
            give_back(lease, nudge=True)
            return
        except OperationalError as error:
            log.warning("%s %s/%d: %s", lease.kind, lease.subject, lease.ordinal, type(error).__name__)


@contextmanager
def _ended_in_time(lease: Lease) -> Iterator[None]:
    """Bounds the block once the worker is told to stop: what is not done in time is given back, the process ends.

    Native code cannot be interrupted, so the process goes without it. Children go with their parent.
    """
    over = threading.Event()

    def watch() -> None:
        while not stopping.wait(WATCH_S):
            if over.is_set():
                return
        if not over.wait(GRACE_S):
            log.warning("%s %s/%d: given back unfinished", lease.kind, lease.subject, lease.ordinal)
            try:
                give_back(lease, nudge=True)
                send_nudges()
            except (LeaseLostError, DBAPIError) as error:
                log.warning("not given back: %s", type(error).__name__)
            os._exit(0)

    thread = threading.Thread(target=watch, name="grace", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
