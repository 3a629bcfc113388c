"""Runs that heal: the scenarios that every test run has time for; `make chaos-training` plays all of them."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.trainer.plan import SCENARIOS, await_steps, clean_run, play, ranks
from chaos.trainer.runs import STEPS, Finished, Run

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


def test_two_machines_train_as_one_and_begin_again_together(tmp_path: Path, clean: Finished) -> None:
    manifest = clean.folder.parent / "with" / "version" / "manifest.json"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    run = Run(changes={"run": {"max_steps": STEPS, "nproc": 1, "nnodes": 2}})
    first, second = (
        run.start(tmp_path, manifest, TALKMILL_RENDEZVOUS=endpoint, TALKMILL_NODE_RANK=str(rank)) for rank in range(2)
    )
    try:
        await_steps(first, tmp_path / "run", 8)
        for victim in ranks(second):
            victim.kill()
        statuses = first.wait(200), second.wait(60)
    finally:
        first.kill()
        second.kill()
    finished = Finished(tmp_path, statuses[0], 0.0)
    assert statuses == (0, 0), finished.log
    assert [entry["kind"] for entry in finished.recoveries] == ["killed"]
    assert not list(finished.folder.glob("run/ranks/*.fault.json"))
    losses = [line["loss"] for line in finished.metrics]
    assert losses == pytest.approx([line["loss"] for line in clean.metrics], abs=1e-4)


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
