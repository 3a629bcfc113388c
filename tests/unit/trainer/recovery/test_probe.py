"""Which records are at fault, told from how each attempt went."""

import json
import math
from pathlib import Path

from trainer.recovery.probe import DEATH, Trial, at_fault, is_bad, read_trials

HEALTHY = [Trial(("old", place, None), True, 3 + 0.1 * place, 1 + 0.05 * place) for place in range(16)]


def trial(place: int, sample: int | None = None, *, loss: float | None = 3.0, norm: float | None = 1.0) -> Trial:
    return Trial(("s", place, sample), False, loss, norm)


def test_a_line_of_the_beginning_without_one_of_the_end_is_a_death(tmp_path: Path) -> None:
    path = tmp_path / "tried.jsonl"
    done = {"suspect": ["s", 1, None], "control": False, "loss": 3.0, "norm": 1.0, "error": None}
    lines = [
        {"trying": ["s", 1, None], "control": False}, done,
        {"trying": ["s", 2, None], "control": False},
        {"trying": ["s", 3, None], "control": False},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(found.suspect[1], found.error) for found in read_trials(path)] == [(1, None), (2, DEATH), (3, DEATH)]
    assert read_trials(tmp_path / "none") == []


def test_what_is_no_number_or_ends_the_process_is_bad_and_what_has_no_target_is_not() -> None:
    for wrong in (trial(1, loss=math.nan), trial(1, norm=math.inf), Trial(("s", 1, None), False, None, None, DEATH)):
        assert is_bad(wrong, "nonfinite", HEALTHY)
    assert not is_bad(trial(1, loss=None, norm=None), "nonfinite", HEALTHY)


def test_only_a_spike_is_judged_by_what_is_usual() -> None:
    far = (trial(1, norm=500.0), trial(1, loss=40.0))
    assert all(is_bad(one, "spike", HEALTHY) for one in far)
    assert not any(is_bad(one, "crash", HEALTHY) for one in far)
    assert not any(is_bad(one, "spike", HEALTHY) for one in (trial(1, norm=6.0), trial(1, loss=5.0), *HEALTHY))
    assert not is_bad(far[0], "spike", HEALTHY[:3]), "three rows do not tell what is usual"


def test_the_samples_at_fault_are_taken_out_of_their_row_and_the_row_where_none_alone_is() -> None:
    trials = [
        *HEALTHY,
        trial(1, loss=math.nan), trial(1, 0), trial(1, 1, loss=math.nan), trial(1, 2),
        trial(2, loss=math.nan), trial(2, 0), trial(2, 1),
        trial(3, loss=math.nan), trial(3, 0, loss=math.nan),
        trial(4),
    ]  # fmt: skip
    assert at_fault(trials, "nonfinite") == {("s", 1): frozenset({1}), ("s", 2): None, ("s", 3): None}
