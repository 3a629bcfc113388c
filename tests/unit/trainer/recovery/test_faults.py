"""One cause among what all ranks show."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config import ConfigError
from trainer.records import DamagedCacheError, DamagedCheckpointError, FaultError, TrainingError
from trainer.recovery.beacon import Beacon, Beat, Phase, forget_beat, read_beats
from trainer.recovery.faults import Report, diagnose, forget_report, read_reports, report

IN_STEP = Beat(1, Phase.STEP, 7, 0, 0.0)
BEFORE = Beat(1, Phase.SETUP, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("error", "beat", "kind"),
    [
        (FaultError("nonfinite", "loss nan"), IN_STEP, "nonfinite"),
        (IndexError("index out of range in self"), IN_STEP, "exception"),
        (IndexError("index out of range in self"), BEFORE, "stop"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), IN_STEP, "out_of_memory"),
        (MemoryError(), IN_STEP, "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), IN_STEP, "stop"),
        (TrainingError("the checkpoint of step 6 cannot be written"), IN_STEP, "stop"),
        (ConfigError("model.base: no safetensors"), BEFORE, "stop"),
        (DamagedCacheError("x is damaged"), IN_STEP, "cache"),
        (DamagedCheckpointError("step 6 is damaged"), BEFORE, "checkpoint"),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1"), IN_STEP, "peer"),
    ],
)
def test_a_rank_tells_what_its_end_was(tmp_path: Path, error: Exception, beat: Beat, kind: str) -> None:
    report(tmp_path, 1, error, beat)
    assert read_reports(tmp_path)[1].kind == kind
    assert read_reports(tmp_path)[1].step == beat.step
    forget_report(tmp_path, 1)
    assert read_reports(tmp_path) == {}


def test_the_cause_is_the_rank_that_crashed_and_not_those_that_waited_for_it() -> None:
    reports = {0: Report("peer", "Connection closed", 7, 1.0), 2: Report("peer", "Connection closed", 7, 1.5)}
    fault = diagnose({0: 1, 1: -signal.SIGSEGV, 2: -signal.SIGTERM}, reports, dict.fromkeys(range(3), IN_STEP))
    assert (fault.kind, fault.step, fault.rank) == ("crash", 7, 1)
    assert fault.reason == "process 1 ended with SIGSEGV"


def test_the_first_of_several_reports_is_the_cause() -> None:
    reports = {0: Report("peer", "", 7, 1.0), 1: Report("exception", "b", 7, 3.0), 2: Report("nonfinite", "a", 7, 2.0)}
    assert diagnose(dict.fromkeys(range(3), 1), reports, dict.fromkeys(range(3), IN_STEP)).kind == "nonfinite"


def test_killed_from_outside_for_memory_and_before_the_first_step() -> None:
    beats = {0: IN_STEP, 1: IN_STEP}
    assert diagnose({0: -9, 1: -15}, {}, beats).kind == "killed"
    assert diagnose({0: -9, 1: -15}, {}, beats, oom_killed=True).kind == "out_of_memory"
    assert diagnose({0: -11, 1: -15}, {}, {0: BEFORE, 1: BEFORE}).kind == "stop"
    assert diagnose({0: -9, 1: -9}, {}, beats, hang="no step for 130 s").kind == "hang"
    assert diagnose({0: 1}, {}, {0: BEFORE}).kind == "stop"


def test_where_a_rank_was_outlives_the_rank(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from trainer.recovery.beacon import Beacon, Phase\n"
        "b = Beacon(Path(sys.argv[1]), 3); b.beat(Phase.STEP, 12, 4); os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL
    beat = read_beats(tmp_path)[3]
    assert (beat.phase, beat.step, beat.micro) == (Phase.STEP, 12, 4)
    Beacon(tmp_path, 0)
    assert read_beats(tmp_path)[0].pid == os.getpid()
    forget_beat(tmp_path, 3)
    assert list(read_beats(tmp_path)) == [0]
