"""Finds the records at fault: tries a step's rows one by one, in processes that may die of them.

`python -m trainer.recovery.probe RUN_DIR` reads `probe/task.json`, loads the model, and lets a copy of itself try row
after row. The copy adds a line to `probe/tried.jsonl` before and after each, so a row that ends it is known by the line
that is missing, and the next copy goes on behind it. Rows that were learned without trouble come first: where these
fail too, the records are not the cause. A row at fault is tried again sample by sample. So a fault costs one pass over
the suspects, however many records are at fault.
"""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.records import append_line, drop_torn_line, write_json
from trainer.recovery.verdicts import DEVIATIONS, MAD_TO_DEVIATION, MIN_LOSS_RATIO, MIN_NORM_RATIO
from trainer.run_lock import LAUNCHER, die_with_launcher, die_with_parent

if TYPE_CHECKING:
    from trainer.recovery.trying import Rows

FOLDER = "probe"
MAX_DEATHS = 200
DEATH = "the process ended"
POLL_S = 0.05
MIN_LIMIT_S, START_LIMIT_S, LIMIT_RATIO = 60.0, 600.0, 20.0
"""A row may take twenty times as long as the slowest before it, but at least a minute; the first may start up."""
NUM_CONTROLS = 16
"""Rows that were learned and are tried too, to know what is usual."""
Suspect = tuple[str, int, int | None]
"""A row's segment and place; a sample's place in it, or None for the whole row."""


@dataclass(frozen=True)
class Task:
    """What to try, and from which weights."""

    kind: str
    """The fault's."""
    checkpoint: int
    """Step of the checkpoint to try from."""
    learned: int
    """Rows done at the checkpoint."""
    rows: tuple[int, int]
    """Cursors between which the suspects lie."""
    limit_s: float | None = None
    """Seconds that a row may take; None: learned."""


@dataclass(frozen=True)
class Trial:
    """How it went with a row or a sample."""

    suspect: Suspect
    control: bool
    loss: float | None
    """Mean over its target tokens."""
    norm: float | None
    """Of the gradient of that."""
    error: str | None = None
    """What ended it: an exception's name, or that the process died."""


@dataclass(frozen=True)
class Findings:
    """What a probe found."""

    at_fault: dict[tuple[str, int], frozenset[int] | None] = field(default_factory=dict)
    """By row: its samples at fault, None for all of it."""
    suspects: list[tuple[str, int]] = field(default_factory=list)
    """The rows that were looked at, in the run's order."""
    rows_tried: int = 0
    deaths: int = 0
    not_the_records: str | None = None
    """Why the cause lies elsewhere, where rows that had been learned fail too."""
    seconds: float = 0.0


def probe(run_dir: Path, task: Task) -> Findings:
    """Tries the rows of a task in side processes and says which are at fault."""
    began = time.monotonic()
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    tried, suspects = folder / "tried.jsonl", folder / "suspects.json"
    for old in (tried, suspects):
        old.unlink(missing_ok=True)
    write_json(folder / "task.json", asdict(task))
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "trainer.recovery.probe", str(run_dir)]
        subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    drop_torn_line(tried)
    trials = read_trials(tried)
    controls = [trial for trial in trials if trial.control]
    bad_controls = [trial for trial in controls if is_bad(trial, task.kind, controls)]
    reason = None
    if controls and len(bad_controls) == len(controls):
        reason = f"rows that had been learned before fail in the same way ({bad_controls[0].error or 'no number'})"
    return Findings(
        at_fault={} if reason else at_fault(trials, task.kind),
        suspects=[tuple(row) for row in json.loads(suspects.read_text("utf-8"))] if suspects.exists() else [],
        rows_tried=len({trial.suspect[:2] for trial in trials}),
        deaths=sum(trial.error == DEATH for trial in trials),
        not_the_records=reason,
        seconds=round(time.monotonic() - began, 1),
    )


def read_trials(path: Path) -> list[Trial]:
    """What was tried; a line of its beginning without one of its end is a death."""
    trials: list[Trial] = []
    begun: dict[str, Any] | None = None
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        value = json.loads(line)
        if "trying" in value:
            if begun is not None:
                trials.append(_death(begun))
            begun = value
        else:
            trials.append(Trial(**{**value, "suspect": tuple(value["suspect"])}))
            begun = None
    return [*trials, _death(begun)] if begun is not None else trials


def _death(begun: dict[str, Any]) -> Trial:
    return Trial(tuple(begun["trying"]), begun["control"], None, None, DEATH)


def is_bad(trial: Trial, kind: str, controls: Sequence[Trial]) -> bool:
    """Whether a trial shows the fault: it dies of it, gives no number, or (`spike`) lies far from the controls."""
    if trial.error is not None:
        return True
    if trial.loss is None or trial.norm is None:  # nothing to learn in it
        return False
    if not (math.isfinite(trial.loss) and math.isfinite(trial.norm)):
        return True
    healthy = [(c.loss, c.norm) for c in controls if c.error is None and c.loss is not None and c.norm is not None]
    if kind != "spike" or len(healthy) < NUM_CONTROLS // 2:
        return False
    losses, norms = zip(*healthy, strict=True)
    return _is_far(trial.loss, losses, MIN_LOSS_RATIO) or _is_far(trial.norm, norms, MIN_NORM_RATIO)


def _is_far(value: float, others: Sequence[float], ratio: float) -> bool:
    logs = [math.log(max(other, 1e-12)) for other in others]
    middle = statistics.median(logs)
    deviation = MAD_TO_DEVIATION * statistics.median(abs(log - middle) for log in logs)
    return math.log(max(value, 1e-12)) > middle + max(DEVIATIONS * deviation, math.log(ratio))


def at_fault(trials: Sequence[Trial], kind: str) -> dict[tuple[str, int], frozenset[int] | None]:
    """Rows at fault with their samples; the whole row where no sample alone shows the fault, or all do."""
    controls = [trial for trial in trials if trial.control]
    suspects = [trial for trial in trials if not trial.control]
    found: dict[tuple[str, int], frozenset[int] | None] = {}
    for trial in suspects:
        segment, place, sample = trial.suspect
        if sample is None and is_bad(trial, kind, controls):
            of_row = [
                other for other in suspects if other.suspect[:2] == (segment, place) and other.suspect[2] is not None
            ]
            bad = frozenset(
                s for other in of_row if is_bad(other, kind, controls) and (s := other.suspect[2]) is not None
            )
            found[segment, place] = bad if 0 < len(bad) < len(of_row) else None
    return found


def main(run_dir: Path) -> int:
    """The side process: copies of itself try, one after another until all is tried."""
    die_with_launcher()
    from trainer.recovery.trying import Rows

    folder = run_dir / FOLDER
    task = Task(**json.loads((folder / "task.json").read_text("utf-8")))
    rows = Rows(run_dir, task)
    write_json(folder / "suspects.json", [suspect[:2] for suspect in rows.suspects])
    tried, me = folder / "tried.jsonl", os.getpid()
    for _ in range(MAX_DEATHS):
        before = _size(tried)
        copy = os.fork()
        if copy == 0:
            die_with_parent(me)
            _try_all(rows, task, tried)
            os._exit(0)
        if _ended_well(copy, task, tried):
            return 0
        drop_torn_line(tried)
        if _size(tried) == before:
            return 1  # it does not come to try anything
    return 1


def _try_all(rows: "Rows", task: Task, tried: Path) -> None:
    """Tries what has not been tried yet."""
    rows.begin()
    known = {(trial.suspect, trial.control): trial for trial in read_trials(tried)}

    def attempt(suspect: Suspect, control: bool) -> Trial:
        if (suspect, control) not in known:
            append_line(tried, {"trying": suspect, "control": control})
            trial = rows.attempt(suspect, control)
            append_line(tried, asdict(trial))
            if trial.error is not None and rows.dies_of_errors:
                os._exit(1)  # a GPU that met an error answers nothing any more
            known[suspect, control] = trial
        return known[suspect, control]

    controls = [attempt(suspect, True) for suspect in rows.controls]
    bad = [suspect for suspect in rows.suspects if is_bad(attempt(suspect, False), task.kind, controls)]
    for suspect in bad:
        for sample in rows.samples(suspect):
            attempt(sample, False)


def _ended_well(copy: int, task: Task, tried: Path) -> bool:
    """Waits for a copy's end, and kills it where a row takes too long."""
    size, since, slowest, lines = _size(tried), time.monotonic(), 0.0, 0
    while True:
        pid, status = os.waitpid(copy, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(POLL_S)
        now = time.monotonic()
        if (grown := _size(tried)) != size:
            slowest = max(slowest, now - since) if lines else 0.0
            size, since, lines = grown, now, lines + 1
        learned = START_LIMIT_S if lines < 2 else max(MIN_LIMIT_S, LIMIT_RATIO * slowest)
        if now - since > (task.limit_s if lines and task.limit_s else learned):
            os.kill(copy, signal.SIGKILL)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
