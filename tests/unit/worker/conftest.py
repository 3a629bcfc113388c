"""Real databases: each test gets an empty one, once SQLite and once PostgreSQL; and a broker for those that ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, new_database, postgresql, valkey

from app import migrations, queue
from app.db import engine_for, get_engine
from app.settings import get_settings


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with postgresql(tmp_path_factory.mktemp("servers") / "postgresql") as server:
        yield server


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty, migrated database, which the settings name; the kind of it."""
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("postgresql_server"))
        monkeypatch.setenv("TALKMILL_DATABASE_URL", url)
    get_settings.cache_clear()
    migrations.upgrade()
    yield request.param
    get_engine().dispose()
    engine_for.cache_clear()
    get_settings.cache_clear()


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[Server]:
    """An empty broker, which the settings name."""
    with valkey(tmp_path / "valkey") as server:
        monkeypatch.setenv("TALKMILL_BROKER_URL", server.env["TALKMILL_BROKER_URL"])
        get_settings.cache_clear()
        queue._producer.cache_clear()
        yield server
        queue._producer.cache_clear()
