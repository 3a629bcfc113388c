"""Whole commands measured: seconds, CPU seconds and peak memory, of a command with all its processes."""

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median as middle

ONE_THREAD = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    wall_s: float
    cpu_s: float
    """Of the process and its children."""
    peak_bytes: int
    """Resident memory of the largest process."""
    said: bytes = b""
    """What it wrote to its standard output."""


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
            middle([run.wall_s for run in self.runs]),
            middle([run.cpu_s for run in self.runs]),
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
    """Runs a command to its end, in the current folder.

    Raises:
        RuntimeError: it failed.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(list(map(str, command)), env={**os.environ, **ONE_THREAD}, stdout=said, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        log.seek(0)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {log.read().decode()[-2000:]}")
        return Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said.read())


def machine(libraries: Sequence[str]) -> dict[str, object]:
    """Where and of what figures are."""
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return {
        "processor": next(_processors(), platform.processor()),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries},
        "commit": commit.stdout.strip(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processors() -> Iterator[str]:
    path = Path("/proc/cpuinfo")
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        if line.startswith("model name"):
            yield line.partition(":")[2].strip()
