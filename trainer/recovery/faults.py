"""Why ranks ended: what each tells before it ends, and which of them was the cause.

Fault.kind       told by                                               cured by
killed           SIGKILL, nobody knows from whom                       going on; at the same step again: as crash
crash            any other signal                                      leaving out records
exception        an exception within a step                            leaving out records
nonfinite        a loss or norm that is no number                      leaving out records
spike            a loss or norm beyond its limit                       leaving out records
hang             no step for a time learned from the run               leaving out records
out_of_memory    an allocation that failed, or the kernel's killer     half the micro-batch
cache            a file of the token cache that changed                making it anew
checkpoint       a checkpoint that cannot be read                      an older one
stop             anything else: settings, disk, an error in set-up     nothing
"""

import errno
import json
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.config import ConfigError
from trainer.records import FaultError, TrainingError, write_json
from trainer.recovery.beacon import FOLDER, Beat, Phase

NO_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
PEER_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "Timed out waiting")
"""How the others' end shows in a rank that waits for them; what it says is no cause."""
PEER = "peer"
DATA_KINDS = ("crash", "exception", "nonfinite", "spike", "hang")
"""What a record may have caused."""


@dataclass(frozen=True)
class Fault:
    """Why a run's processes ended."""

    kind: str
    reason: str
    step: int
    """The step that was being done; 0 before the first."""
    rank: int | None = None


@dataclass(frozen=True)
class Report:
    """What a rank tells before it ends."""

    kind: str
    reason: str
    step: int
    at: float


def report(run_dir: Path, rank: int, error: BaseException, beat: Beat | None) -> None:
    """Keeps why this rank ends."""
    step = beat.step if beat is not None else 0
    told = Report(_kind(error, beat), sentence(error), step, time.time())
    with suppress(OSError):  # where the disk is full the launcher finds no report, and the rank's exit status
        write_json(run_dir / FOLDER / f"{rank}.fault.json", asdict(told))


def read_reports(run_dir: Path) -> dict[int, Report]:
    """By rank, what was told."""
    paths = (run_dir / FOLDER).glob("*.fault.json")
    return {int(path.name.split(".")[0]): Report(**json.loads(path.read_text("utf-8"))) for path in paths}


def forget_report(run_dir: Path, rank: int) -> None:
    """Removes what an earlier rank of this number told."""
    (run_dir / FOLDER / f"{rank}.fault.json").unlink(missing_ok=True)


def diagnose(
    exit_codes: Mapping[int, int],
    reports: Mapping[int, Report],
    beats: Mapping[int, Beat],
    *,
    hang: str | None = None,
    oom_killed: bool = False,
) -> Fault:
    """The one cause among what all ranks show.

    `exit_codes` by rank, negative for a signal; `hang` says how long nothing moved where the launcher itself ended the
    ranks for that.
    """
    step = max((beat.step for beat in beats.values() if beat.phase is not Phase.SETUP), default=0)
    if hang is not None:
        return Fault("hang", hang, step)
    signals = {rank: -code for rank, code in exit_codes.items() if code < 0 and code != -signal.SIGTERM}
    causes = sorted((told.at, rank) for rank, told in reports.items() if told.kind != PEER)
    # A rank that told why it ends may still crash on its way out.
    silent = (rank for rank, number in signals.items() if number != signal.SIGKILL and rank not in reports)
    crashed = next(silent, None)
    if crashed is not None:
        at = beats[crashed].step if crashed in beats else step
        kind = "crash" if at else "stop"
        return Fault(kind, f"process {crashed} ended with {signal.Signals(signals[crashed]).name}", at, crashed)
    if causes:
        rank = causes[0][1]
        told = reports[rank]
        return Fault(told.kind, told.reason, told.step, rank)
    if signals:
        rank = next(iter(signals))
        how = "by the kernel, for want of memory" if oom_killed else "(SIGKILL)"
        return Fault("out_of_memory" if oom_killed else "killed", f"process {rank} was killed {how}", step, rank)
    codes = ", ".join(f"process {rank}: {code}" for rank, code in sorted(exit_codes.items()))
    return Fault("stop" if step == 0 else "exception", f"the processes ended without a reason ({codes})", step)


def _kind(error: BaseException, beat: Beat | None) -> str:
    message = str(error)
    if isinstance(error, FaultError):
        return error.kind
    if isinstance(error, MemoryError) or any(sign in message for sign in NO_MEMORY):
        return "out_of_memory"
    if isinstance(error, TrainingError | ConfigError) or (isinstance(error, OSError) and _of_disk(error)):
        return "stop"
    if any(sign in message for sign in PEER_GONE):
        return PEER
    return "exception" if beat is not None and beat.phase is Phase.STEP else "stop"


def _of_disk(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def sentence(error: BaseException) -> str:
    """An error in a line, without what it may quote behind that."""
    if isinstance(error, TrainingError | ConfigError):
        return str(error)
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
