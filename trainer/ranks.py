"""Runs a run's processes by torchrun until they end, watches that they move, and tells how they ended."""

import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.config import Recovery, TrainConfig
from trainer.nodes import Node, ends_elsewhere, tell_end
from trainer.recovery.beacon import Beat, Phase, forget_beat, read_beats
from trainer.recovery.faults import Fault, diagnose, forget_report, read_reports
from trainer.run_lock import LAUNCHER

POLL_S = 0.5
HANG_RATIO, FIRST_STEP_RATIO = 20.0, 10.0
MIN_STEP_LIMIT_S, OTHER_LIMIT_S = 120.0, 3_600.0
"""A step may take twenty times as long as the slowest before it, but at least two minutes; before three steps are done,
and outside steps, an hour: kernels are compiled, disks are slow."""
STEPS_TO_LEARN = 3
OTHERS_S = 3.0
"""How long the other machines may take to tell how their processes ended."""
JOIN_S = 3_600


@dataclass(frozen=True)
class Ended:
    """How the processes ended: by a signal to the launcher, by a fault, or (neither) by themselves."""

    interrupted: bool = False
    fault: Fault | None = None


def run_ranks(run_dir: Path, config: TrainConfig, node: Node) -> Ended:
    """Starts this machine's ranks and waits for their end, and after a fault a little for the other machines'."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    nproc = int(config.run.nproc)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    os.environ[LAUNCHER] = str(os.getpid())
    command = [
        f"--nproc-per-node={nproc}", *_meeting(node), "--max-restarts=0", "--monitor-interval=0.2",
        "--module", "trainer.rank", str(run_dir),
    ]  # fmt: skip
    for rank in node.ranks(nproc):
        forget_beat(run_dir, rank)
        forget_report(run_dir, rank)
    kills_before = _oom_kills()
    with Watch(run_dir, config.recovery, node, nproc) as watch:
        try:
            torchrun(command)
        except ChildFailedError as error:
            exit_codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        except SignalException:
            return Ended(interrupted=True)
        else:
            return Ended()
    tell_end(run_dir, node, exit_codes)
    if node.count > 1 and node.rank == 0:
        time.sleep(OTHERS_S)
    fault = diagnose(
        {**ends_elsewhere(run_dir, node), **exit_codes},
        read_reports(run_dir),
        read_beats(run_dir),
        hang=watch.hang,
        oom_killed=_oom_kills() > kills_before,
    )
    return Ended(fault=fault)


def _meeting(node: Node) -> list[str]:
    """How the machines' agents find each other."""
    host, _, port = (node.endpoint or f"127.0.0.1:{_free_port()}").rpartition(":")
    return [
        f"--nnodes={node.count}", f"--node-rank={node.rank}", f"--master-addr={host}", f"--master-port={port}",
        f"--rdzv-conf=timeout={JOIN_S}",
    ]  # fmt: skip


class Watch:
    """Kills this machine's ranks when none moves for longer than is usual, or when another machine's have failed."""

    def __init__(self, run_dir: Path, recovery: Recovery, node: Node, nproc: int) -> None:
        self.hang: str | None = None
        """How long nothing moved, once that is so."""
        self._run_dir, self._node, self._ranks = run_dir, node, node.ranks(nproc)
        self._given = None if recovery.hang_after_s == "auto" else float(recovery.hang_after_s)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        slowest, steps, before = 0.0, 0, dict[int, Beat]()
        while not self._end.wait(POLL_S):
            beats = {rank: beat for rank, beat in read_beats(self._run_dir).items() if rank in self._ranks}
            for rank, beat in beats.items():
                old = before.get(rank)
                if old is not None and old.pid == beat.pid and old.phase is beat.phase is Phase.STEP:
                    slowest = max(slowest, beat.at_s - old.at_s)
                    steps = max(steps, beat.step)
            before = beats
            if any(code != 0 for code in ends_elsewhere(self._run_dir, self._node).values()):
                _kill(beats)
            self._kill_where_nothing_moves(beats, slowest, steps)

    def _kill_where_nothing_moves(self, beats: Mapping[int, Beat], slowest: float, steps: int) -> None:
        if not beats or self.hang is not None:
            return
        last = max(beats.values(), key=lambda beat: beat.at_s)
        limit = OTHER_LIMIT_S
        if last.phase is Phase.STEP and steps >= STEPS_TO_LEARN:
            limit = max(MIN_STEP_LIMIT_S, HANG_RATIO * slowest)
        if last.phase is Phase.STEP and self._given is not None:
            limit = self._given if steps > 1 else FIRST_STEP_RATIO * self._given
        still = time.monotonic() - last.at_s
        if still > limit:
            self.hang = f"nothing moved for {still:.0f} s"
            _kill(beats)


def _kill(beats: Mapping[int, Beat]) -> None:
    for beat in beats.values():
        with suppress(ProcessLookupError):
            os.kill(beat.pid, signal.SIGKILL)


def _oom_kills() -> int:
    """How often the kernel has killed a process of this machine's control group for want of memory."""
    with suppress(OSError, ValueError):
        for line in Path("/sys/fs/cgroup/memory.events").read_text().splitlines():
            name, count = line.split()
            if name == "oom_kill":
                return int(count)
    return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
