"""What is done about a fault: which checkpoint the run goes back to, what it leaves out, and when it stops instead.

Every restart is a line of `recovery.jsonl`, which is all that a run remembers of its faults: what is left out is read
from there too. Records are looked for before the run goes on, while its processes are gone and their memory is free.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from trainer.checked_files import disappear
from trainer.config import TrainConfig
from trainer.data.vectors import Vectors, read_samples
from trainer.records import append_line, cut_back, event, read_lines
from trainer.recovery.detours import RECOVERIES, Detour, Samples
from trainer.recovery.faults import DATA_KINDS, Fault
from trainer.recovery.probe import Findings, Task, probe
from trainer.recovery.verdicts import Choice, choose
from trainer.schedule import Schedule

MAX_RECORDS_TOLD = 1_000
IDLE_RATIO = 10
MAY_PASS = ("crash", "exception", "hang")
"""Faults that may have had to do with the machine, where no record shows them: they are given a second chance."""


class CannotCureError(Exception):
    """The run stops; the message is the reason."""


@dataclass(frozen=True)
class Patient:
    """A run that ended by a fault."""

    run_dir: Path
    config: TrainConfig
    vectors: Vectors
    ended_at: float
    """Unix time at which its processes were gone."""


def read_recoveries(run_dir: Path) -> list[dict[str, Any]]:
    """The restarts of a run, in their order."""
    return read_lines(run_dir / RECOVERIES)


def micro_tokens(run_dir: Path, config: TrainConfig) -> int:
    """Tokens of a forward pass of one rank: the setting, less what a want of memory took away."""
    halved = (entry["micro_tokens"] for entry in reversed(read_recoveries(run_dir)) if "micro_tokens" in entry)
    return int(next(halved, config.batch.micro_tokens))


def tolerated_until(run_dir: Path) -> int:
    """The last step whose spikes are taken for what the data is like, since no record showed the last one alone."""
    return max((entry.get("tolerated_until", 0) for entry in read_recoveries(run_dir)), default=0)


def cure(run: Patient, fault: Fault) -> None:
    """Makes the run directory ready to go on.

    Raises:
        CannotCureError: the run must stop.
    """
    past = read_recoveries(run.run_dir)
    _check_restarts(run, fault, past)
    entry: dict[str, Any] = {
        "at": time.time(), "kind": fault.kind, "reason": fault.reason, "step": fault.step, "rank": fault.rank,
        "segment": None, "records": [], "num_records": 0, "action": "went on",
    }  # fmt: skip
    if fault.kind == "checkpoint":
        _remove_checkpoints(run.run_dir, lambda step: step == fault.step)
    choice = _choose(run, fault)
    entry["checkpoint"] = {"step": choice.step, "why": choice.why}
    if fault.kind == "out_of_memory":
        entry |= _halve_micro_batch(run)
    elif fault.kind in DATA_KINDS or (fault.kind == "killed" and _was_there(fault, past)):
        entry |= _leave_out(run, fault, choice, past)
    entry["steps_repeated"] = _go_back(run.run_dir, choice.step)
    entry["seconds_lost"] = round(time.time() - run.ended_at, 1)
    append_line(run.run_dir / RECOVERIES, entry)
    told = f"{fault.reason} at step {fault.step}: {entry['action']}, from the checkpoint of step {choice.step}"
    event(run.run_dir, told, level="warning", **{k: v for k, v in entry.items() if k not in ("records", "detour")})


def _check_restarts(run: Patient, fault: Fault, past: list[dict[str, Any]]) -> None:
    """So many faults in a row at one step end the run, or ten times as many without reaching a new step."""
    if fault.kind == "stop":
        raise CannotCureError(fault.reason)
    if fault.kind == "out_of_memory":
        return  # halving ends by itself
    steps = [*(entry["step"] for entry in past if "micro_tokens" not in entry), fault.step]
    there = sum(1 for _ in takewhile(lambda step: step == fault.step, reversed(steps[:-1])))
    furthest, idle = -1, 0
    for step in steps:
        idle = 0 if step > furthest else idle + 1
        furthest = max(furthest, step)
    allowed = run.config.recovery.max_restarts
    if there >= allowed or idle >= IDLE_RATIO * allowed:
        times = f", after {len(past)} restarts without getting beyond step {furthest}" if past else ""
        raise CannotCureError(f"{fault.reason} at step {fault.step}{times}")


def _was_there(fault: Fault, past: list[dict[str, Any]]) -> bool:
    """Whether the same came at this step before: once may be the machine, twice is something."""
    return any(entry["kind"] == fault.kind and entry["step"] == fault.step for entry in past)


def _choose(run: Patient, fault: Fault) -> Choice:
    qualities = {
        int(path.parent.name.removeprefix("step-")): json.loads(path.read_text("utf-8"))
        for path in _qualities(run.run_dir)
    }
    if not qualities:  # even the first may still have been written
        return Choice(0, "the beginning: no checkpoint was complete")
    before = max(1, fault.step) if fault.kind in (*DATA_KINDS, "checkpoint") else math.inf
    try:
        return choose(qualities, run.config.recovery, read_lines(run.run_dir / "metrics.jsonl"), before)
    except ValueError as error:
        raise CannotCureError(f"{fault.reason}; {error}") from None


def _halve_micro_batch(run: Patient) -> dict[str, Any]:
    least = run.config.row_tokens
    in_a_step = -(
        -Schedule.of(run.config, run.vectors.num_rows).full_rows // (int(run.config.run.nproc) * run.config.run.nnodes)
    )
    rows = micro_tokens(run.run_dir, run.config) // least
    if run.config.batch.by == "tokens":  # else a step has more rows than conversations, who knows how many
        rows = min(rows, in_a_step)
    if rows < 2:
        reason = (
            f"out of memory with one row of {least} tokens a micro-batch: shorten data.max_source_length or "
            "data.max_target_length, set run.activation_checkpointing, or use more cards"
        )
        raise CannotCureError(reason)
    halved = rows // 2 * least
    return {"action": f"micro-batches of {halved} tokens", "micro_tokens": halved}


def _leave_out(run: Patient, fault: Fault, choice: Choice, past: list[dict[str, Any]]) -> dict[str, Any]:
    """The records at fault where the probe finds them, else the step's segments."""
    if run.config.recovery.on_bad_segment == "stop":
        raise CannotCureError(f"{fault.reason} at step {fault.step}; recovery.on_bad_segment is stop")
    findings, suspects = _look(run, fault, choice)
    if not suspects:
        raise CannotCureError(
            f"{fault.reason} at step {fault.step}; the search for records at fault does not run, see probe/log"
        )
    if findings.not_the_records is not None:
        where = f"{fault.reason} at step {fault.step}"
        raise CannotCureError(f"{where}; the records are not the cause: {findings.not_the_records}")
    from_row = _cursor(run, choice.step)
    facts: dict[str, Any] = {
        "probe": {"rows": findings.rows_tried, "deaths": findings.deaths, "seconds": findings.seconds}
    }
    if findings.at_fault:
        detour = Detour(from_row, rows=findings.at_fault)
        segments = sorted({segment for segment, _ in findings.at_fault})
        records = _conversations(run.vectors, segments, findings.at_fault)
        action = f"left out {len(records)} {'record' if len(records) == 1 else 'records'}"
    elif fault.kind == "killed" or (fault.kind in MAY_PASS and not _was_there(fault, past)):
        return {**facts, "segment": suspects[0][0], "action": "went on, since no record shows the fault alone"}
    elif fault.kind == "spike":  # sorted data is like this where one kind of conversation ends and another begins
        until = fault.step + run.config.recovery.window
        action = f"went on, since no record shows the fault alone; spikes up to step {until} are let pass"
        return {**facts, "segment": suspects[0][0], "action": action, "tolerated_until": until}
    else:
        if any(entry.get("unexplained") == fault.kind for entry in past):
            why = "the same came in other records before, and none of them shows it alone: the cause is not in the data"
            raise CannotCureError(f"{fault.reason} at step {fault.step}; {why}")
        segments = sorted({segment for segment, _ in suspects})
        detour = Detour(from_row, frozenset(segments))
        records = _conversations(run.vectors, segments, None)
        action = f"left out {', '.join(segments)}, since no record in it shows the fault alone"
        facts["unexplained"] = fault.kind
    told = [{"conversation_id": name} for name in records[:MAX_RECORDS_TOLD]]
    return {
        **facts, "segment": segments[0], "records": told, "num_records": len(records), "action": action,
        "detour": detour.as_json(),
    }  # fmt: skip


def _look(run: Patient, fault: Fault, choice: Choice) -> tuple[Findings, list[tuple[str, int]]]:
    """Tries the step's rows, then for faults that build up those since the checkpoint; the step's rows beside."""
    limit = run.config.recovery.hang_after_s
    limit_s = None if limit == "auto" else float(limit)
    learned, first, last = (_cursor(run, step) for step in (choice.step, fault.step - 1, fault.step))
    findings = probe(run.run_dir, Task(fault.kind, choice.step, learned, (first, last), limit_s))
    suspects = findings.suspects
    nothing = not findings.at_fault and findings.not_the_records is None
    if nothing and fault.kind in ("nonfinite", "spike") and learned < first:
        findings = probe(run.run_dir, Task(fault.kind, choice.step, learned, (learned, last), limit_s))
    return findings, suspects


def _cursor(run: Patient, step: int) -> int:
    """Rows done after a step."""
    rows = [line["rows"] for line in read_lines(run.run_dir / "metrics.jsonl")][:step]
    cursor = sum(rows)
    schedule = Schedule.of(run.config, run.vectors.num_rows)
    for _ in range(len(rows), step):  # a rank may die before another one has told of the step before
        cursor += schedule.rows_at(cursor)
    return cursor


def _conversations(
    vectors: Vectors, segments: Iterable[str], at_fault: Mapping[tuple[str, int], Samples | None] | None
) -> list[str]:
    """Ids of the conversations in these segments, or of those at fault in them."""
    found: set[str] = set()
    for segment in vectors.train:
        if segment.path not in segments:
            continue
        for place, names in enumerate(read_samples(vectors, segment)):
            samples: Samples | None = None if at_fault is None else at_fault.get((segment.path, place), frozenset())
            found |= {name for index, (_, name) in enumerate(names) if samples is None or index in samples}
    return sorted(found)


def _go_back(run_dir: Path, step: int) -> int:
    """Removes what comes behind a checkpoint, so that the ranks go on from it; returns how many steps that undoes."""
    _remove_checkpoints(run_dir, lambda other: other > step)
    undone = sum(line["step"] > step for line in read_lines(run_dir / "metrics.jsonl"))
    cut_back(run_dir / "metrics.jsonl", step)
    return undone


def _remove_checkpoints(run_dir: Path, which: Callable[[int], bool]) -> None:
    for path in _qualities(run_dir):
        if which(int(path.parent.name.removeprefix("step-"))):
            disappear(path.parent)


def _qualities(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "checkpoints").glob("step-*/quality.json"))
