"""Finds the records at fault: tries a step's rows one by one, in a process of its own that may die of them.

`python -m trainer.probe RUN_DIR` reads `probe/task.json` and adds a line to `probe/tried.jsonl` before and after each
row, so that a row which ends the process is known by the line that is missing. Started again, it goes on behind it.
Rows that were learned without trouble are tried first: where these fail too, the records are not the cause. A row at
fault is tried again sample by sample. So a fault costs one pass over the suspects, and a start for each that kills.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.records import append_line, drop_torn_line, write_json
from trainer.recovery import DEVIATIONS, MAD_TO_DEVIATION, MIN_LOSS_RATIO, MIN_NORM_RATIO
from trainer.run_lock import LAUNCHER, die_with_launcher

FOLDER = "probe"
MAX_DEATHS = 200
MIN_LIMIT_S, START_LIMIT_S, LIMIT_RATIO = 60.0, 600.0, 20.0
"""A row may take twenty times as long as the slowest before it, but at least a minute; the first also starts up."""
NUM_CONTROLS = 16
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
    """Tries the rows of a task in a side process and says which are at fault."""
    began = time.monotonic()
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    tried = folder / "tried.jsonl"
    suspects = folder / "suspects.json"
    for old in (tried, suspects):
        old.unlink(missing_ok=True)
    write_json(folder / "task.json", asdict(task))
    deaths, ended = 0, False
    while not ended and deaths <= MAX_DEATHS:
        before = _size(tried)
        ended = _run(run_dir, task, tried)
        drop_torn_line(tried)
        if not ended and _size(tried) == before:
            break  # it dies of itself
        deaths += not ended
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
        deaths=deaths,
        not_the_records=reason,
        seconds=round(time.monotonic() - began, 1),
    )


def _run(run_dir: Path, task: Task, tried: Path) -> bool:
    """One life of the side process; whether it came to the end."""
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    with (run_dir / FOLDER / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer.probe", str(run_dir)], stdout=log, stderr=log, env=environment
        )
    size, since, slowest, lines = _size(tried), time.monotonic(), 0.0, 0
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.1) == 0
        now = time.monotonic()
        if (grown := _size(tried)) != size:
            slowest = max(slowest, now - since) if lines else 0.0  # the first line comes after starting up
            size, since, lines = grown, now, lines + 1
        learned = START_LIMIT_S if lines < 2 else max(MIN_LIMIT_S, LIMIT_RATIO * slowest)
        if now - since > (task.limit_s if lines and task.limit_s else learned):
            process.kill()
            process.wait()
            return False


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
    return Trial(tuple(begun["trying"]), begun["control"], None, None, "the process ended")


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


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main(run_dir: Path) -> int:
    """The side process."""
    die_with_launcher()
    from trainer.trying import Rows

    task = Task(**json.loads((run_dir / FOLDER / "task.json").read_text("utf-8")))
    rows = Rows(run_dir, task)
    path = run_dir / FOLDER / "tried.jsonl"
    known = {(trial.suspect, trial.control): trial for trial in read_trials(path)}

    def attempt(suspect: Suspect, control: bool) -> Trial:
        if (suspect, control) not in known:
            append_line(path, {"trying": suspect, "control": control})
            trial = rows.attempt(suspect, control)
            append_line(path, asdict(trial))
            if trial.error is not None and rows.dies_of_errors:
                os._exit(1)  # a GPU that met an error answers nothing any more: the next life goes on behind it
            known[suspect, control] = trial
        return known[suspect, control]

    write_json(run_dir / FOLDER / "suspects.json", [suspect[:2] for suspect in rows.suspects()])
    controls = [attempt(suspect, True) for suspect in rows.controls(NUM_CONTROLS)]
    bad = [suspect for suspect in rows.suspects() if is_bad(attempt(suspect, False), task.kind, controls)]
    for suspect in bad:
        for sample in rows.samples(suspect):
            attempt(sample, False)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
