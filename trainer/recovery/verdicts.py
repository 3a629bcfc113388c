"""What counts as a fault, which checkpoint is a good one, and which of them a run goes back to: rules over facts.

The facts are the lines of `metrics.jsonl` and each checkpoint's `quality.json`. Norms are compared on a log scale by
median and median absolute deviation, which a few outliers do not move, within one stage of the batch ramp, since a
larger batch has smaller norms.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.config import Recovery

Line = Mapping[str, Any]
MAD_TO_DEVIATION = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
DEVIATIONS = 8.0
MIN_NORM_RATIO = 10.0
"""However steady the norms are, less than ten times their median is no explosion."""
MIN_LOSS_RATIO = 2.0
MAX_SPREAD = 1.0
"""auto: the norms' standard deviation in a good checkpoint's window is at most their mean."""
MAX_SKIPPED_SHARE = 0.1
MAX_SKIPPED_IN_A_ROW = 10


@dataclass(frozen=True)
class Verdict:
    """Whether a checkpoint is a good one, and why or why not."""

    good: bool
    reason: str


@dataclass(frozen=True)
class Choice:
    """The checkpoint that a run goes back to."""

    step: int
    why: str


def fault_in(line: Line, history: Sequence[Line], recovery: Recovery) -> tuple[str, str] | None:
    """What is wrong with a step before it is applied: a kind (`nonfinite`, `spike`, `skipped`) and a sentence.

    `line` has the step's loss, grad_norm and rows, and `skipped` where the loss scaler leaves it out; `history` the
    lines of the steps before.
    """
    if line.get("skipped"):
        return _too_many_skipped(history)
    loss, norm = line["loss"], line["grad_norm"]
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return "nonfinite", f"loss {loss}, gradient norm {norm}"
    limit = norm_limit(history, line.get("rows"), recovery)
    if limit is not None and norm > limit:
        return "spike", f"gradient norm {norm:.3g}, over its limit of {limit:.3g}"
    losses = [float(old["loss"]) for old in _applied(history[-2 * recovery.window :])[-recovery.window :]]
    if len(losses) == recovery.window:
        middle, deviation = _robust(losses)
        most = max(middle + DEVIATIONS * deviation, MIN_LOSS_RATIO * middle)
        if loss > most:
            return "spike", f"loss {loss:.3g}, over its limit of {most:.3g}"
    return None


def _too_many_skipped(history: Sequence[Line]) -> tuple[str, str] | None:
    last = history[-(MAX_SKIPPED_IN_A_ROW - 1) :]
    if len(last) == MAX_SKIPPED_IN_A_ROW - 1 and all(line.get("skipped") for line in last):
        return "nonfinite", f"the loss scaler skipped {MAX_SKIPPED_IN_A_ROW} steps in a row"
    return None


def norm_limit(history: Sequence[Line], rows: int | None, recovery: Recovery) -> float | None:
    """The gradient norm above which a step of so many rows is a fault; None while nothing is known.

    A stage's first window is held to ten times the median of the stage before.
    """
    if recovery.grad_norm_limit != "auto":
        return recovery.grad_norm_limit
    applied = _applied(history[-4 * recovery.window :])
    stage = [line for line in applied if line.get("rows") == rows][-recovery.window :]
    if len(stage) == recovery.window:
        middle, deviation = _robust([_log(line["grad_norm"]) for line in stage])
        return math.exp(middle + max(DEVIATIONS * deviation, math.log(MIN_NORM_RATIO)))
    earlier = [float(line["grad_norm"]) for line in applied if line.get("rows") != rows][-recovery.window :]
    return MIN_NORM_RATIO * statistics.median(earlier) if len(earlier) == recovery.window else None


def is_good(quality: Mapping[str, Any], recovery: Recovery, history: Sequence[Line]) -> Verdict:
    """Whether a checkpoint is a good one: all finite, loss scale, gradient norms under the limit and steady.

    `history` are the lines up to the checkpoint's step. Step 0 is always good.
    """
    if quality["step"] == 0:
        return Verdict(True, "the beginning")
    norms = quality["grad_norm"]
    lines = [line for line in history if line["step"] <= quality["step"]]
    window = lines[-recovery.window :]
    limit = norm_limit(lines[: len(lines) - len(window)], window[-1].get("rows") if window else None, recovery)
    if (flaw := next(_flaws(quality, recovery, limit), None)) is not None:
        return Verdict(False, flaw)
    steady = f"all finite, norms {norms['mean']:.3g} ± {norms['spread']:.2g}"
    return Verdict(True, steady + (f", limit {limit:.3g}" if limit is not None else ""))


def _flaws(quality: Mapping[str, Any], recovery: Recovery, limit: float | None) -> Iterator[str]:
    norms, scale, skipped = quality["grad_norm"], quality["loss_scale"], quality["skipped_share"]
    if not quality["finite"]:
        yield "not all of it is finite"
    if not scale >= recovery.min_loss_scale:
        yield f"loss scale {scale:g}"
    if skipped > MAX_SKIPPED_SHARE:
        yield f"{skipped:.0%} of its window were skipped"
    if norms["max"] is None:
        yield "no step of its window was applied"
        return
    if limit is None:  # a run's first norms fall quickly, which is no sign
        return
    if norms["max"] > limit:
        yield f"gradient norm {norms['max']:.3g}, over its limit of {limit:.3g}"
    spread = norms["spread"] / norms["mean"]
    most = MAX_SPREAD if recovery.grad_norm_spread_limit == "auto" else recovery.grad_norm_spread_limit
    if spread > most:
        yield f"gradient norms spread by {spread:.2g} of their mean, over {most:.2g}"


def choose(
    qualities: Mapping[int, Mapping[str, Any]], recovery: Recovery, history: Sequence[Line], before: float
) -> Choice:
    """The newest good checkpoint of a step before `before`; step 0 is always there to go back to.

    Raises:
        ValueError: not even that one is there.
    """
    passed: list[str] = []
    for step in sorted((step for step in qualities if step < before), reverse=True):
        verdict = is_good(qualities[step], recovery, history)
        if verdict.good:
            why = f"newest good one: {verdict.reason}"
            return Choice(step, "; ".join([why, *passed]))
        passed.append(f"step {step} is not: {verdict.reason}")
    raise ValueError("no checkpoint is left to go back to")


def window_facts(step: int, history: Sequence[Line], recovery: Recovery) -> dict[str, Any]:
    """What `quality.json` says of the steps before a checkpoint."""
    window = history[-recovery.window :]
    norms = [float(line["grad_norm"]) for line in _applied(window)]
    mean = sum(norms) / len(norms) if norms else None
    return {
        "step": step,
        "loss": history[-1]["loss"] if history else None,
        "loss_scale": history[-1]["loss_scale"] if history else 1.0,
        "skipped_share": 1 - len(norms) / len(window) if window else 0.0,
        "grad_norm": {
            "mean": mean,
            "spread": statistics.pstdev(norms) if norms else None,
            "max": max(norms, default=None),
        },
        "finite": all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in _applied(window)),
    }


def _applied(history: Sequence[Line]) -> list[Line]:
    """The steps that were applied: one that the loss scaler skipped says nothing."""
    return [line for line in history if not line.get("skipped")]


def _robust(values: Sequence[float]) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation stands for."""
    middle = statistics.median(values)
    return middle, MAD_TO_DEVIATION * statistics.median(abs(value - middle) for value in values)


def _log(norm: float) -> float:
    return math.log(max(norm, 1e-12))
