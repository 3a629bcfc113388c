"""Runs that heal: the scenarios that every test run has time for; `make chaos-training` plays all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.trainer.plan import SCENARIOS, clean_run, play
from chaos.trainer.runs import STEPS, Finished, Run

PLAYED = (
    "two bad segments",
    "a checkpoint that is damaged",
    "no memory for more than a row",
    "every record gives NaN",
    "one of two machines killed",
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    yield clean_run(tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("name", PLAYED)
def test_a_harmed_run_heals_or_says_why_not(name: str, tmp_path: Path, clean: Finished) -> None:
    row = play(name, SCENARIOS[name], tmp_path, clean)
    assert row.lost is None, row


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "TALKMILL_RENDEZVOUS"),
        ({"TALKMILL_RENDEZVOUS": "10.0.0.1:29400", "TALKMILL_NODE_RANK": "2"}, "TALKMILL_NODE_RANK"),
    ],
)
def test_machines_that_do_not_know_each_other_are_told_how(
    tmp_path: Path, clean: Finished, environment: dict[str, str], said: str
) -> None:
    manifest = clean.folder.parent / "with" / "version" / "manifest.json"
    run = Run(changes={"run": {"max_steps": STEPS, "nproc": 1, "nnodes": 2}})
    assert run.start(tmp_path, manifest, **environment).wait(60) == 2
    assert said in (tmp_path / "log").read_text()
