"""Faults and good checkpoints, told from metrics alone."""

import math
import random
from typing import Any

import pytest

from trainer.config import Recovery
from trainer.recovery.verdicts import choose, fault_in, is_good, norm_limit, window_facts

RECOVERY = Recovery()
Line = dict[str, Any]


def line(step: int, norm: float = 1.0, loss: float = 3.0, rows: int = 8, **more: Any) -> Line:
    return {"step": step, "loss": loss, "grad_norm": norm, "loss_scale": 1.0, "rows": rows, **more}


def steady(count: int, *, rows: int = 8, first: int = 1, norm: float = 1.0) -> list[Line]:
    """Norms and losses as a healthy run has them: log-normal, a third apart."""
    rng = random.Random(count * 31 + rows)
    return [
        line(step, norm * math.exp(rng.gauss(0, 0.3)), 3 + rng.gauss(0, 0.3), rows)
        for step in range(first, first + count)
    ]


def quality(step: int, history: list[Line]) -> dict[str, Any]:
    return window_facts(step, [old for old in history if old["step"] <= step], RECOVERY)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_fault_from_the_first_step_on(bad: float) -> None:
    for wrong in (line(1, loss=bad), line(1, norm=bad)):
        kind, reason = fault_in(wrong, [], RECOVERY) or ("", "")
        assert (kind, str(bad) in reason) == ("nonfinite", True)


def test_healthy_runs_of_any_noise_raise_no_alarm() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        history: list[Line] = []
        for step in range(1, 400):
            decay = 6 * math.exp(-step / 50)
            now = line(step, (1 + decay) * math.exp(rng.gauss(0, 0.4)), 2.5 + decay + rng.gauss(0, 0.4))
            assert fault_in(now, history, RECOVERY) is None
            history.append(now)


def test_an_exploding_norm_or_loss_is_a_fault_once_there_is_something_to_compare_with() -> None:
    assert fault_in(line(6, norm=1000.0), steady(5), RECOVERY) is None
    assert fault_in(line(41, norm=40.0), steady(40), RECOVERY)[0] == "spike"  # type: ignore[index]
    assert fault_in(line(41, loss=9.5), steady(40), RECOVERY)[0] == "spike"  # type: ignore[index]
    assert fault_in(line(41, norm=40.0), steady(40), Recovery(grad_norm_limit=50.0)) is None
    assert fault_in(line(2, norm=60.0), steady(1), Recovery(grad_norm_limit=50.0)) is not None


def test_a_new_stage_of_the_ramp_is_held_to_the_one_before() -> None:
    history = [*steady(30, rows=4), *steady(5, rows=8, first=31, norm=0.5)]
    assert norm_limit(history, 8, RECOVERY) == pytest.approx(10, rel=0.3)
    history += steady(20, rows=8, first=36, norm=0.5)
    assert (norm_limit(history, 8, RECOVERY) or 0) < norm_limit(history[:30], 4, RECOVERY)  # type: ignore[operator]


def test_steps_that_the_loss_scaler_skips_are_no_fault_until_ten_stand_in_a_row() -> None:
    skipped = [line(step, math.inf, skipped=True) for step in range(41, 50)]
    history = steady(40)
    for index, now in enumerate(skipped):
        assert fault_in(now, history + skipped[:index], RECOVERY) is None
    assert fault_in(line(50, math.inf, skipped=True), history + skipped, RECOVERY) is not None
    assert not is_good(quality(49, history + skipped), RECOVERY, history + skipped).good


def test_a_good_checkpoint_is_finite_steady_and_has_a_loss_scale() -> None:
    history = steady(60)
    assert is_good(quality(60, history), RECOVERY, history).good
    assert is_good(quality(0, []), RECOVERY, []).good
    for wrong in ({"finite": False}, {"loss_scale": 0.0}, {"loss_scale": 0.5}, {"skipped_share": 0.2}):
        assert not is_good({**quality(60, history), **wrong}, RECOVERY, history).good, wrong
    jumpy = history[:40] + [line(step, 0.1 if step % 5 else 9.0) for step in range(41, 61)]
    verdict = is_good(quality(60, jumpy), RECOVERY, jumpy)
    assert (verdict.good, "spread" in verdict.reason) == (False, True)
    exploded = history[:40] + [line(step, 300.0) for step in range(41, 61)]
    assert "over its limit" in is_good(quality(60, exploded), RECOVERY, exploded).reason
    assert is_good(quality(60, exploded), Recovery(grad_norm_limit=1e3), exploded).good


def test_the_newest_good_checkpoint_before_the_damage_is_chosen_and_says_why() -> None:
    history = steady(40) + [line(step, 300.0) for step in range(41, 61)]
    qualities = {step: quality(step, history) for step in (0, 20, 40, 60)}
    choice = choose(qualities, RECOVERY, history, before=61)
    assert choice.step == 40
    assert "step 60 is not" in choice.why
    assert choose(qualities, RECOVERY, history, before=40).step == 20
    assert choose({0: qualities[0]}, RECOVERY, history, before=5).why == "newest good one: the beginning"
    with pytest.raises(ValueError, match="no checkpoint"):
        choose({}, RECOVERY, history, before=5)
