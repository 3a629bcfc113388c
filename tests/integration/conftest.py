"""One stack shared by the tests that do not harm it; those that do start their own."""

from collections.abc import Iterator

import pytest
from running_stack import RunningStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack with two curate workers and small segments, shared by the tests that do not harm it."""
    env = {"TALKMILL_SEGMENT_BYTES": "65536"}
    running = RunningStack(tmp_path_factory.mktemp("stack"), workers=2, env=env)
    yield running
    assert running.stop() == []
