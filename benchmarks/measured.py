"""Whole commands measured: seconds, CPU seconds and peak memory, of a command with all its processes."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ONE_THREAD = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    wall_s: float
    cpu_s: float
    """Of the process and its children."""
    peak_bytes: int
    """Resident memory of the largest process."""


@dataclass
class Case:
    """A command that is run several times."""

    name: str
    command: Sequence[str | Path]
    num_bytes: int
    """Of its input."""
    clear: Callable[[], None] = lambda: None
    """Called before each run."""
    runs: list[Run] = field(default_factory=list)

    @property
    def median(self) -> Run:
        """The medians of the runs, each figure for itself."""
        return Run(
            _median([run.wall_s for run in self.runs]),
            _median([run.cpu_s for run in self.runs]),
            max(run.peak_bytes for run in self.runs),
        )


def run_interleaved(cases: Sequence[Case], repeats: int, tell: Callable[[str], None]) -> None:
    """Runs each case once, then each again: what slows the machine down for a while slows all of them."""
    for number in range(repeats):
        for case in cases:
            case.clear()
            case.runs.append(measure(case.command))
            tell(
                f"{number + 1}/{repeats} {case.name}: {case.runs[-1].wall_s:.1f} s, {case.runs[-1].cpu_s:.1f} s of CPU"
            )


def measure(command: Sequence[str | Path]) -> Run:
    """Runs a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), env={**os.environ, **ONE_THREAD}, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {said.decode()}")
    return Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
