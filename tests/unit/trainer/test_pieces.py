"""Packing, the schedule, the settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import ConfigError, parse_config, resolve, warmup_steps
from trainer.optim import lr_factor
from trainer.packing import pack

SCRATCH = {"model": {"scratch": {"preset": "tiny"}}, "data": {"version": "m"}}


@given(st.lists(st.integers(1, 100), max_size=200))
def test_packing_splits_and_loses_nothing(lengths: list[int]) -> None:
    rows = pack(lengths, 100)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 100 for row in rows)
    assert len(rows) <= 2 * (sum(lengths) // 100 + 1), "at most every other token is padding"


def test_the_schedule_warms_up_linearly_and_ends_at_a_tenth() -> None:
    factors = [lr_factor(step, 200, 10, 0.1) for step in range(1, 201)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert max(factors) == 1
    assert factors[-1] == pytest.approx(0.1)
    assert factors[9:] == sorted(factors[9:], reverse=True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"optim": {"lr": 1}}, "optim.lr"),
        ({"run": {"precision": "fp8"}}, "run.precision"),
        ({"data": {"version": "m", "max_source_length": 3}}, "data.max_source_length"),
        ({"model": {}}, "model"),
        ({"model": {"scratch": {"preset": "huge"}}}, "model.scratch"),
        ({"model": {"scratch": {"num_heads": 7}}}, "model.scratch"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        parse_config({**SCRATCH, **change})


def test_auto_values_give_a_small_run_enough_steps() -> None:
    config = resolve(parse_config(SCRATCH), num_rows=1000, num_gpus=0)
    assert config.batch.tokens == 16_384
    assert config.run.max_steps == 300
    assert config.optim.peak_lr == 1e-3
    assert warmup_steps(config, 300) == 10
    assert warmup_steps(config, 40) == 4, "warm-up is at most a tenth of the run"


def test_a_batch_in_conversations_is_as_many_mean_samples() -> None:
    body = {**SCRATCH, "batch": {"conversations": 32}}
    assert resolve(parse_config(body), num_rows=1000, num_gpus=0, sample_tokens=250.4).batch.tokens == 8013
    few = {**SCRATCH, "batch": {"conversations": 1}}
    assert resolve(parse_config(few), num_rows=1000, num_gpus=0, sample_tokens=250.4).batch.tokens == 1536, "a row"
    both = {**SCRATCH, "batch": {"conversations": 32, "tokens": 4096}}
    assert resolve(parse_config(both), num_rows=1000, num_gpus=0, sample_tokens=250.4).batch.tokens == 4096
