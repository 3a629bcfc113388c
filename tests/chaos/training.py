"""Faults while a model is trained: every step is made once, with the loss it has when nothing disturbs."""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import psutil
from chaos.arena import Arena
from chaos.faults import Fault
from chaos.rounds import Client, Loss, begin, begin_training
from chaos.scenario import TRAINER
from chaos.verdict import judge, judge_job

from app.crash import POINTS, Point

TOLERANCE = 1e-4
VICTIMS, TRIES = ("worker", "trainer"), 4
TRAINING_POINTS: tuple[Point, ...] = tuple(point for point in POINTS if point.startswith("train_"))


def undisturbed_training(arena: Arena, classifier: str) -> str:
    """The run that the others are compared with."""
    if arena.version is None:
        made = begin(arena, classifier)
        judge(arena, made)
        arena.version = made.version
    if arena.losses is None:
        began = time.monotonic()
        arena.losses = judge_job(arena, _job(arena))
        arena.training_s = time.monotonic() - began
    return f"loss {arena.losses[0]:.2f} → {arena.losses[-1]:.2f}"


def crash_in_training(arena: Arena, classifier: str) -> str:
    """The supervisor of one run dies at every named point of training, one after another."""
    undisturbed_training(arena, classifier)
    for point in TRAINING_POINTS:
        arena.arm(point)
    _judge_as_undisturbed(arena, _job(arena))
    if missed := [point for point in TRAINING_POINTS if not arena.has_crashed(point)]:
        raise Loss(f"nobody came to {', '.join(missed)}")
    return ", ".join(TRAINING_POINTS)


def random_moments(num: int, victims: Sequence[str] = VICTIMS) -> Fault:
    """As many runs, each with one kill at a random moment: of the worker and, in turn, of the trainer that it runs."""

    def fault(arena: Arena, classifier: str) -> str:
        undisturbed_training(arena, classifier)
        assert arena.training_s is not None
        told: list[str] = []
        for _ in range(TRIES * num):
            victim = victims[len(told) % len(victims)]
            began, moment = time.monotonic(), arena.rng.uniform(0, arena.training_s)
            job = _job(arena)
            time.sleep(moment)
            kill = partial(arena.kill, "train") if victim == "worker" else partial(_kill_trainer, arena)
            while not (killed := kill()) and not _is_over(arena, job):
                time.sleep(0.05)
            _judge_as_undisturbed(arena, job)
            lost_s = time.monotonic() - began - arena.training_s
            if killed:  # else the run was over before its moment came
                told.append(f"{victim} at {moment:.1f} s: {lost_s:+.1f} s")
            if len(told) == num:
                return "; ".join(told)
        raise Loss(f"only {len(told)} of the runs were still there when their moments came")

    return fault


def _kill_trainer(arena: Arena) -> bool:
    """Kills the process that looks after a run's ranks; whether there was one."""
    for child in arena.stack.family():
        with suppress(psutil.Error):
            if child.cmdline()[1:3] == ["-m", "trainer"]:
                child.kill()
                return True
    return False


def killed_rank(num: int) -> Fault:
    """One process of several that train is killed at random moments of one run."""

    def fault(arena: Arena, classifier: str) -> str:
        undisturbed_training(arena, classifier)
        job = _job(arena)
        killed = 0
        while killed < num and not _is_over(arena, job):
            if ranks := arena.ranks():
                time.sleep(arena.rng.uniform(0, 6))
                try:
                    arena.rng.choice(ranks).kill()
                    killed += 1
                except psutil.NoSuchProcess:
                    continue
                psutil.wait_procs(ranks, timeout=30)
            time.sleep(0.1)
        _judge_as_undisturbed(arena, job)
        if not killed:
            raise Loss("no rank was ever there to be killed")
        return f"{killed} kills"

    return fault


def _job(arena: Arena) -> str:
    assert arena.version is not None
    arena.num_rounds += 1
    return begin_training(arena, arena.version, arena.num_rounds)


def _is_over(arena: Arena, job: str) -> bool:
    return Client(arena).get(f"/fine_tuning/jobs/{job}")["status"] in ("succeeded", "failed", "cancelled")


def _judge_as_undisturbed(arena: Arena, job: str) -> None:
    losses = judge_job(arena, job)
    assert arena.losses is not None
    assert len(losses) == TRAINER["run"]["max_steps"]
    apart = max(abs(one - other) for one, other in zip(losses, arena.losses, strict=True))
    if apart > TOLERANCE:
        raise Loss(f"the losses are up to {apart:.5f} apart from those of the undisturbed run")
