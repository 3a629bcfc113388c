"""How long a run is, how its batch grows, how its learning rate runs."""

from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import ConfigError, TrainConfig, parse_config
from trainer.schedule import Schedule, resolve, unusual_rate

SCRATCH = {"model": {"scratch": {"preset": "tiny"}}, "data": {"version": "m"}}
ROW = 1536


def resolved(num_rows: int = 1000, num_gpus: int = 0, sample_tokens: float = 250.4, **parts: Any) -> TrainConfig:
    config = parse_config({**SCRATCH, **parts})
    return resolve(config, num_rows=num_rows, num_gpus=num_gpus, sample_tokens=sample_tokens)


def ramp(start: int, until: int, full: int, **run: Any) -> dict[str, Any]:
    grow = {"start_tokens": start * ROW, "until_tokens": until * ROW}
    return {"batch": {"tokens": full * ROW, "micro_tokens": ROW, "ramp": grow}, "run": run}


def test_auto_values_give_a_small_run_enough_steps() -> None:
    config = resolved()
    assert config.batch.tokens == 16_384
    assert config.run.max_steps == 300
    assert config.optim.peak_lr == 1e-3


def test_a_batch_in_conversations_is_as_many_mean_samples() -> None:
    assert resolved(batch={"conversations": 32}).batch.tokens == 8013
    assert resolved(batch={"conversations": 1}).batch.tokens == ROW, "a row"
    assert resolved(batch={"conversations": 32, "tokens": 4096}).batch.tokens == 4096


def test_the_rate_warms_up_linearly_and_ends_at_a_tenth() -> None:
    schedule = Schedule.of(resolved(batch={"tokens": 5 * ROW}, run={"max_steps": 200}), 1000)
    rates = [schedule.learning_rate(cursor) / 1e-3 for cursor in range(5, 1001, 5)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)]), "ten steps at least"
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
    short = Schedule.of(resolved(batch={"tokens": 5 * ROW}, run={"max_steps": 40}), 1000)
    assert short.warmup_rows == 4 * 5, "at most a tenth of the run"


def test_an_epoch_takes_every_row_once_and_the_last_step_what_is_left() -> None:
    config = resolved(103, batch={"tokens": 10 * ROW}, run={"epochs": 2})
    steps = list(Schedule.of(config, 103).steps_from(0))
    assert sum(steps) == 206
    assert (len(steps), steps[-1]) == (config.run.max_steps, 6)
    steps = list(Schedule.of(resolved(103, batch={"tokens": 10 * ROW}, run={"max_steps": 7}), 103).steps_from(0))
    assert steps == [10] * 7, "steps that were asked for are whole"


def test_a_ramp_grows_by_micro_batches_and_is_full_in_time() -> None:
    parts = ramp(2, 60, 10, epochs=1)
    parts["batch"]["micro_tokens"] = 2 * ROW
    schedule = Schedule.of(resolved(**parts), 1000)
    steps = list(schedule.steps_from(0))
    assert sorted(set(steps)) == [2, 4, 6, 8, 10]
    assert steps[:-1] == sorted(steps[:-1]), "the last takes what is left"
    cursors = [0, *accumulate(steps)]
    first_full = steps.index(10)
    assert cursors[first_full - 1] < 60 <= cursors[first_full]


@given(
    st.integers(1, 30), st.integers(0, 40), st.integers(1, 300), st.integers(1, 7), st.integers(1, 500),
    st.one_of(st.none(), st.integers(1, 120)),
)  # fmt: skip
def test_closed_forms_are_what_counting_gives(
    start: int, more: int, until: int, micro: int, num_rows: int, max_steps: int | None
) -> None:
    parts = ramp(start, until, start + more, epochs=1.5, max_steps=max_steps)
    parts["batch"]["micro_tokens"] = micro * ROW
    try:
        config = resolved(num_rows, **parts)
    except ConfigError as refusal:
        assert "until_tokens" in str(refusal)
        return
    schedule = Schedule.of(config, num_rows)
    steps = list(schedule.steps_from(0))
    assert len(steps) == schedule.num_steps == config.run.max_steps
    assert max_steps in {None, len(steps)}
    assert sum(steps) == schedule.total_rows
    assert all(later - earlier in range(0, more + 1) for earlier, later in pairwise(steps[:-1]))
    assert [schedule.rows_before(step) for step in range(1, len(steps) + 2)] == [0, *accumulate(steps)]
    done = sum(steps[: len(steps) // 2])
    assert list(schedule.steps_from(done)) == steps[len(steps) // 2 :], "a run goes on exactly"
    assert schedule.learning_rate(schedule.total_rows) <= schedule.peak_lr


def test_the_rate_follows_tokens_not_steps() -> None:
    plain = Schedule.of(resolved(batch={"tokens": 10 * ROW}, run={"max_steps": 60}), 1000)
    grown = Schedule.of(resolved(**ramp(2, 300, 10, epochs=0.6)), 1000)
    assert (plain.total_rows, plain.warmup_rows) == (600, 60)
    assert (grown.total_rows, grown.warmup_rows) == (600, 20), "ten steps of two rows"
    assert len(list(grown.steps_from(0))) > 60
    assert grown.learning_rate(600) == plain.learning_rate(600)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (ramp(1, 10, 4) | {"batch": {"tokens": 4 * ROW, "ramp": {"start_tokens": 5, "until_tokens": 9}}},
         "batch.ramp.start_tokens: 5 are less than the 1536 tokens of a row"),
        (ramp(5, 10, 4), "batch.ramp.start_tokens: 7680 are more than the full batch of 6144 tokens"),
        (ramp(1, 3001, 4), "batch.ramp.until_tokens: 4609536 are more than the run's 4608000 tokens"),
        (ramp(1, 100, 4, max_steps=20), "batch.ramp.until_tokens"),
        ({"batch": {"ramp": {"start_tokens": 0, "until_tokens": 9}}}, "batch.ramp.start_tokens"),
        ({"optim": {"peak_lr": 0}}, "optim.peak_lr"),
        ({"optim": {"peak_lr": 3.0}}, "^optim.peak_lr: Input should be less than or equal to 1, or 'auto'$"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_its_field(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(**parts)


def test_a_rate_far_from_the_usual_is_told() -> None:
    base = {"model": {"base": "folder"}}
    for rate, told in ((2e-5, True), (5e-5, False), (1e-4, False), (2e-4, True)):
        sentence = unusual_rate(resolved(**base, optim={"peak_lr": rate}))
        assert (sentence is not None) == told
        assert sentence is None or sentence.startswith(f"optim.peak_lr is {rate:g}; 5e-05 to 0.0001 is usual")
    assert unusual_rate(resolved()) is None
    assert unusual_rate(resolved(model={"base": "folder", "lora": {}})) is None


def test_more_processes_than_gpus_are_refused() -> None:
    assert resolved(num_gpus=2).run.nproc == 2
    assert resolved(num_gpus=0, run={"nproc": 4}).run.nproc == 4
    with pytest.raises(ConfigError, match=r"run\.nproc"):
        resolved(num_gpus=2, run={"nproc": 4})
