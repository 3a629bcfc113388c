"""One stack shared by the tests that do not harm it, of each kind; those that harm theirs start their own."""

from collections.abc import Iterator

import pytest
from running_stack import RunningStack
from servers import all_three


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a PostgreSQL, a Valkey and an S3 store that run as long as the tests."""
    with all_three(tmp_path_factory.mktemp("servers")) as env:
        yield env


@pytest.fixture(scope="session", params=["embedded", "servers"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with two curate workers and small segments: once on SQLite and a folder, once on real servers."""
    env = {"TALKMILL_SEGMENT_BYTES": "65536"}
    if request.param == "servers":
        env |= request.getfixturevalue("servers")
    running = RunningStack(tmp_path_factory.mktemp("stack"), workers=2, env=env)
    yield running
    assert running.stop() == []
