"""The faults: each is one function that hurts an arena during a passage of the scenario and returns what it did.

Each raises Loss when something was lost, and when the fault never happened: then nothing was shown.
"""

import os
import signal
import threading
import time
from collections.abc import Callable

from celery import Celery
from chaos.arena import LEASE_S, Arena
from chaos.rounds import Loss, Round, begin, train_classifier
from chaos.verdict import judge
from sqlalchemy import select

from app.crash import POINTS, Point
from app.models import Work
from app.queue import DO_WORK, celery_options

Fault = Callable[[Arena, str], str]
"""Takes the arena and a trained classifier's id; returns a note for the table."""
Hurt = Callable[[threading.Event], None]
CURATION_POINTS: tuple[Point, ...] = tuple(point for point in POINTS if not point.startswith("train_"))


def nothing(arena: Arena, classifier: str) -> str:
    """The passage itself is sound."""
    judge(arena, begin(arena, classifier))
    return ""


def crash_at(point: Point) -> Fault:
    """A process dies at the named point."""

    def fault(arena: Arena, classifier: str) -> str:
        arena.arm(point)
        made = begin(arena, classifier)
        if point.startswith("learn_"):
            made.classifier = train_classifier(arena, made.number)
        judge(arena, made)
        if not arena.has_crashed(point):
            raise Loss("nobody came to this point")
        return ""

    return fault


def random_kills(num: int) -> Fault:
    """Parts of the stack are killed at random moments, round after round, until `num` are dead."""

    def fault(arena: Arena, classifier: str) -> str:
        killed: list[str] = []

        def hurt(over: threading.Event) -> None:
            while len(killed) < num and not over.wait(arena.rng.uniform(0.1, 2.0)):
                part = arena.rng.choice([name for name in arena.parts() if name != "train"])
                if arena.kill(part):
                    killed.append(part)

        rounds = 0
        while len(killed) < num:
            _beside(arena, classifier, hurt, learn=rounds % 3 == 0)
            rounds += 1
        counted = ", ".join(f"{part} {killed.count(part)}" for part in sorted(set(killed)))
        return f"{num} kills in {rounds} rounds: {counted}"

    return fault


def frozen_worker(arena: Arena, classifier: str) -> str:
    """A worker sleeps in the middle of its shard until another has done it, and wakes: its commit is fenced off."""
    before = _fenced_off(arena)

    def hurt(over: threading.Event) -> None:
        while not over.is_set():
            found = _caught_at_work(arena)
            if found is None:
                time.sleep(0.005)
                continue
            pid, work_id, fence = found
            until = time.monotonic() + 6 * LEASE_S
            try:
                while time.monotonic() < until and not over.is_set():
                    if _fence(arena, work_id) > fence:  # somebody else has claimed it
                        time.sleep(LEASE_S)
                        return
                    time.sleep(0.05)
            finally:
                os.kill(pid, signal.SIGCONT)

    for attempt in range(1, 6):
        _beside(arena, classifier, hurt, learn=False)
        deadline = time.monotonic() + 5
        while _fenced_off(arena) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        if fenced := _fenced_off(arena) - before:
            return f"{fenced} fenced off, caught in round {attempt}"
    raise Loss("no worker was caught in the middle of a shard")


def tripled_nudges(arena: Arena, classifier: str) -> str:
    """Every nudge comes three more times at once."""
    sent = 0
    url = arena.broker_url()

    def send(barrier: threading.Barrier, work: Work) -> None:
        producer = Celery(broker=url, set_as_current=False)
        producer.conf.update(celery_options())
        barrier.wait(10)
        producer.send_task(DO_WORK, args=[work.id], queue=work.queue, ignore_result=True)
        producer.close()

    def hurt(over: threading.Event) -> None:
        nonlocal sent
        seen: set[str] = set()
        while not over.wait(0.02):
            with arena.session() as session:
                found = session.scalars(select(Work).where(Work.kind.in_(("ingest", "plan", "curate", "close")))).all()
            for work in found:
                if work.id in seen or work.id in earlier or over.is_set():
                    continue
                barrier = threading.Barrier(3)
                senders = [threading.Thread(target=send, args=(barrier, work)) for _ in range(3)]
                for sender in senders:
                    sender.start()
                for sender in senders:
                    sender.join()
                seen.add(work.id)
                sent += 3

    with arena.session() as session:
        earlier = set(session.scalars(select(Work.id)))
    _beside(arena, classifier, hurt, learn=False)
    if sent < 3 * 5:
        raise Loss(f"only {sent} nudges were sent")
    return f"{sent} nudges more"


def emptied_broker(arena: Arena, classifier: str) -> str:
    """The broker forgets everything, three times while nudges wait in it."""
    lost = 0

    def hurt(over: threading.Event) -> None:
        nonlocal lost
        times = 0
        with arena.redis() as client:
            while times < 3 and not over.wait(0.005):
                waiting = int(str(client.llen("curate")))
                if waiting:
                    client.flushall()
                    lost, times = lost + waiting, times + 1
                    over.wait(0.5)

    for _ in range(5):
        _beside(arena, classifier, hurt, learn=True)
        if lost:
            return f"at least {lost} nudges lost"
    raise Loss("no nudge was ever waiting in the broker")


def _beside(arena: Arena, classifier: str, hurt: Hurt, *, learn: bool) -> Round:
    """A whole round while `hurt` runs beside it, until it returns or the round is over."""
    over, failed = threading.Event(), []

    def run() -> None:
        try:
            hurt(over)
        except Exception as error:  # noqa: BLE001  (told by the main thread)
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        made = begin(arena, classifier)
        if learn:
            made.classifier = train_classifier(arena, made.number)
        judge(arena, made)
    finally:
        over.set()
        thread.join(30)
    if failed:
        raise failed[0]
    return made


def _caught_at_work(arena: Arena) -> tuple[int, str, int] | None:
    """A worker stopped while it holds a shard: its process, the work, the fence."""
    held = select(Work).where(Work.kind == "curate", Work.state == "leased").limit(1)
    with arena.session() as session:
        work = session.scalar(held)
    if work is None or work.owner is None:
        return None
    pid = int(work.owner.rpartition(":")[2])
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return None
    with arena.session() as session:
        again = session.get_one(Work, work.id)
    if again.state == "leased" and again.fence == work.fence:
        return pid, work.id, work.fence
    os.kill(pid, signal.SIGCONT)
    return None


def _fence(arena: Arena, work_id: str) -> int:
    with arena.session() as session:
        return session.get_one(Work, work_id).fence


def _fenced_off(arena: Arena) -> int:
    """How often workers told that they dropped a result."""
    logs = (arena.folder / "logs").glob("curate-*.log")
    return sum(path.read_text("utf-8", "replace").count("lease lost, result dropped") for path in logs)
