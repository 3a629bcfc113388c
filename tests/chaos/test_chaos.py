"""Nothing is lost, in the form that every test run has time for; `make chaos` plays all of it, on both backends."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from chaos import faults, training
from chaos.arena import Arena, arena
from chaos.faults import CURATION_POINTS, Fault, crash_at, random_kills
from chaos.plan import play_closing, stopped, trained_classifier
from chaos.scenario import Scenario

from app.crash import Point, crash_point

SEED = 20261125
EMBEDDED: dict[str, Fault] = {
    **{point: crash_at(point) for point in CURATION_POINTS},
    "random_kills": random_kills(5),
    "frozen_worker": faults.frozen_worker,
    "tripled_nudges": faults.tripled_nudges,
    "emptied_broker": faults.emptied_broker,
    "training": training.crash_in_training,
    "training_random_moments": training.random_moments(1, ("trainer",)),
    "stopped": stopped,
}
SERVERS_POINTS: tuple[Point, ...] = ("request_committed", "after_segment_rename", "curate_before_commit")
SERVERS: dict[str, Fault] = {
    **{point: crash_at(point) for point in SERVERS_POINTS},
    "random_kills": random_kills(3),
    "emptied_broker": faults.emptied_broker,
    "stopped": stopped,
}


@pytest.fixture(scope="module")
def scenario() -> Iterator[Scenario]:
    with closing(Scenario()) as made:
        yield made


@pytest.fixture(scope="module")
def embedded(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Arena, str]]:
    with arena("sqlite", tmp_path_factory.mktemp("embedded"), scenario, seed=SEED) as playing:
        yield playing, trained_classifier(playing)


@pytest.fixture(scope="module")
def on_servers(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Arena, str]]:
    with arena("postgresql", tmp_path_factory.mktemp("servers"), scenario, seed=SEED) as playing:
        yield playing, trained_classifier(playing)


@pytest.mark.parametrize("fault", EMBEDDED.values(), ids=EMBEDDED.keys())
def test_nothing_is_lost_on_one_machine(embedded: tuple[Arena, str], fault: Fault) -> None:
    fault(*embedded)


@pytest.mark.parametrize("fault", SERVERS.values(), ids=SERVERS.keys())
def test_nothing_is_lost_on_servers(on_servers: tuple[Arena, str], fault: Fault) -> None:
    fault(*on_servers)


def test_a_version_whose_last_shards_commit_together_is_closed_once(scenario: Scenario) -> None:
    outcome = play_closing(scenario, 20)
    assert outcome.lost is None, outcome.lost


def test_a_crash_point_does_nothing_outside_of_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TALKMILL_CRASH_AT", "work_claimed")
    monkeypatch.delenv("TALKMILL_TEST_MODE", raising=False)
    crash_point("work_claimed")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_crash_point_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMILL_CRASH_AT", "work_claimd")
    monkeypatch.setenv("TALKMILL_TEST_MODE", "1")
    with pytest.raises(ValueError, match="there is no point work_claimd"):
        crash_point("work_claimed")
