"""Which faults are played on which backend, and what came of each."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from chaos import faults, machine, training
from chaos.arena import Arena, Backend, arena
from chaos.closing import service_in_process, two_last_shards
from chaos.faults import CURATION_POINTS, Fault, crash_at, random_kills
from chaos.rounds import Loss, train_classifier
from chaos.scenario import Scenario
from chaos.verdict import judge_classifier
from servers import postgresql

CLOCK, DISK, CLOSING = "wall clock ± 1 h", "disk full", "two last shards at once"


@dataclass(frozen=True)
class Outcome:
    """What came of a fault: a note, or what was lost."""

    fault: str
    backend: str
    lost: str | None
    note: str
    seconds: float


def every_fault(kills: int) -> dict[str, Fault]:
    """What is played on an ordinary arena, by name; `kills` random ones in all, some of them in training."""
    of_runs, of_rank = min(20, 2 * kills // 5), min(3, kills // 10)
    return {
        "nothing": faults.nothing,
        **{f"crash at {point}": crash_at(point) for point in CURATION_POINTS},
        "random kills": random_kills(kills - of_runs - of_rank),
        "worker frozen beyond its lease": faults.frozen_worker,
        "every nudge thrice at once": faults.tripled_nudges,
        "broker emptied": faults.emptied_broker,
        "training, nothing": training.undisturbed_training,
        "crash at every point of training": training.crash_in_training,
        "training, killed at random moments": training.random_moments(of_runs),
        "random kills of a rank": training.killed_rank(of_rank),
        "no process may write": machine.no_writes,
    }


def play(backend: Backend, named: Mapping[str, Fault], scenario: Scenario, seed: int) -> Iterator[Outcome]:
    """Plays faults on one arena, on a fresh one after each loss; at the end nothing may be left running."""
    waiting = list(named.items())
    while waiting:
        with TemporaryDirectory(prefix="talkmill-chaos-") as name, ExitStack() as open_things:
            playing = open_things.enter_context(arena(backend, Path(name), scenario, seed=seed))
            classifier = trained_classifier(playing)
            lost = False
            while waiting and not lost:
                fault, inflict = waiting.pop(0)
                outcome = outcome_of(fault, backend, partial(inflict, playing, classifier))
                lost = outcome.lost is not None
                yield outcome
            yield outcome_of("stopped", backend, partial(stopped, playing, classifier))


def play_machine(backend: Backend, scenario: Scenario, seed: int) -> Iterator[Outcome]:
    """The faults that want an arena of their own: a clock that moves, a disk that fills."""
    with TemporaryDirectory(prefix="talkmill-chaos-") as name:
        root = Path(name)
        with arena(backend, root, scenario, seed=seed, env=machine.faked_clock(root)) as playing:
            classifier = trained_classifier(playing)
            yield outcome_of(CLOCK, backend, partial(machine.moved_clock, playing, classifier))
            yield outcome_of("stopped", backend, partial(stopped, playing, classifier))
    with TemporaryDirectory(prefix="talkmill-chaos-") as name, machine.small_disk(Path(name) / "stack") as mounted:
        if not mounted:
            yield Outcome(DISK, backend, None, "not allowed to mount here: see `no process may write`", 0)
            return
        with arena(backend, Path(name), scenario, seed=seed) as playing:
            classifier = trained_classifier(playing)
            yield outcome_of(DISK, backend, partial(machine.full_disk, playing, classifier))
            yield outcome_of("stopped", backend, partial(stopped, playing, classifier))


def play_closing(scenario: Scenario, times: int) -> Outcome:
    """The two last shards commit together, on PostgreSQL."""
    with ExitStack() as open_things:
        root = Path(open_things.enter_context(TemporaryDirectory(prefix="talkmill-chaos-")))
        server = open_things.enter_context(postgresql(root / "postgresql"))
        open_things.enter_context(service_in_process(server.env["TALKMILL_DATABASE_URL"], root))
        return outcome_of(CLOSING, "postgresql", partial(two_last_shards, scenario, root, times))


def trained_classifier(playing: Arena) -> str:
    """The classifier that the recipes of an arena name."""
    classifier = train_classifier(playing, 0)
    judge_classifier(playing, classifier)
    return classifier


def stopped(playing: Arena, _: str) -> str:
    """Ends the stack; nothing of it lives on."""
    alive = [one.name() for one in playing.stack.stop()]
    if left := alive + playing.left_over():
        raise Loss(f"still running after the end: {left}")
    return ""


def outcome_of(fault: str, backend: Backend, inflict: Callable[[], str]) -> Outcome:
    """Plays one fault and takes its time."""
    started = time.monotonic()
    lost, note = None, ""
    try:
        note = inflict()
    except Exception as error:  # noqa: BLE001  (the table goes on, with the loss in it
        lost = f"{type(error).__name__}: {error}"
    return Outcome(fault, backend, lost, note, round(time.monotonic() - started, 1))
