"""Packing, the settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import ConfigError, parse_config
from trainer.data.packing import pack

SCRATCH = {"model": {"scratch": {"preset": "tiny"}}, "data": {"version": "m"}}


@given(st.lists(st.integers(1, 100), max_size=200))
def test_packing_splits_and_loses_nothing(lengths: list[int]) -> None:
    rows = pack(lengths, 100)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 100 for row in rows)
    assert len(rows) <= 2 * (sum(lengths) // 100 + 1), "at most every other token is padding"


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
