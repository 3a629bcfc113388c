"""One owner of a run directory at a time, with real processes that are killed, stopped and orphaned."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from select import select

import psutil
import pytest
from running_stack import RunningStack

from trainer.run_lock import RunLock

OWNER = "lock.own(); print('in', flush=True); sys.stdin.read()"
RANK = "lock.join(); print('in', flush=True); sys.stdin.read()"
LAUNCHER = """
os.environ[LAUNCHER] = str(os.getpid())
rank = 'from trainer.run_lock import die_with_launcher; import time; die_with_launcher(); print(1, flush=True); time.sleep(60)'
child = subprocess.Popen([sys.executable, '-c', rank], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


class Started:
    """A Python process that says when it has come to where it wanted."""

    def __init__(self, running: ExitStack, run_dir: Path, code: str) -> None:
        head = "import os, subprocess, sys, time; from pathlib import Path; from trainer.run_lock import *; "
        head += f"from trainer.run_lock import LAUNCHER; lock = RunLock(Path({str(run_dir)!r}))\n"
        command = [sys.executable, "-c", head + code]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.callback(self.end)

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _is_free(run_dir: Path) -> bool:
    lock = RunLock(run_dir)
    try:
        return lock.try_own()
    finally:
        lock.release()


def test_a_new_owner_waits_for_the_old_one_and_for_its_ranks(running: ExitStack, tmp_path: Path) -> None:
    owner = Started(running, tmp_path, OWNER)
    assert owner.says() == "in"
    rank = Started(running, tmp_path, RANK)
    assert rank.says() == "in"
    assert not _is_free(tmp_path)
    heirs = [Started(running, tmp_path, OWNER) for _ in range(2)]
    owner.end()
    assert not _is_free(tmp_path), "a rank of the old owner is still in"
    rank.end()
    first = _the_one_that_is_in(heirs)
    assert first.says() == "in"
    assert not _is_free(tmp_path)
    first.end()
    heirs.remove(first)
    assert heirs[0].says() == "in"
    heirs[0].end()
    assert _is_free(tmp_path)


def _the_one_that_is_in(heirs: list[Started]) -> Started:
    ready, _, _ = select([one.process.stdout for one in heirs], [], [], 20)
    (found,) = [one for one in heirs if one.process.stdout in ready]
    return found


@pytest.mark.parametrize("stopped", [False, True])
def test_a_rank_goes_with_its_launcher_even_when_it_is_stopped(
    running: ExitStack, tmp_path: Path, stopped: bool
) -> None:
    launcher = Started(running, tmp_path, LAUNCHER)
    rank = psutil.Process(int(launcher.says()))
    if stopped:
        rank.suspend()
    os.kill(launcher.process.pid, signal.SIGKILL)
    RunningStack.wait_until(lambda: not rank.is_running() or rank.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_rank_whose_launcher_died_before_it_could_ask_ends(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = "from trainer.run_lock import die_with_launcher; die_with_launcher(); raise SystemExit(7)"
    env = {**os.environ, "TALKMILL_LAUNCHER_PID": str(gone.pid)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 1
