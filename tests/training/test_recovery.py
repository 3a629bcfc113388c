"""Runs that heal: the scenarios that every test run has time for; `make chaos-training` plays all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.trainer.plan import SCENARIOS, clean_run, play
from chaos.trainer.runs import Finished

PLAYED = (
    "two bad segments",
    "a checkpoint that is damaged",
    "no memory for more than a row",
    "every record gives NaN",
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    yield clean_run(tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("name", PLAYED)
def test_a_harmed_run_heals_or_says_why_not(name: str, tmp_path: Path, clean: Finished) -> None:
    row = play(name, SCENARIOS[name], tmp_path, clean)
    assert row.lost is None, row
