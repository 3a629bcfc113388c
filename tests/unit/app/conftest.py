"""The application in this process, on an empty SQLite database, without a broker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import migrations
from app.auth import SCOPES, create_key
from app.db import get_engine, writing
from app.main import create_app
from app.settings import get_settings


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    migrations.upgrade()
    yield TestClient(create_app(), raise_server_exceptions=False)
    get_engine().dispose()
    get_settings.cache_clear()


@pytest.fixture
def key(client: TestClient) -> Callable[..., dict[str, str]]:
    """Makes a key of some scopes; returns the header that shows it."""

    def make(*scopes: str) -> dict[str, str]:
        with writing() as session:
            _, token = create_key(session, "test", scopes)
        return {"Authorization": f"Bearer {token}"}

    return make


@pytest.fixture
def everything(key: Callable[..., dict[str, str]]) -> dict[str, str]:
    """A key of all scopes."""
    return key(*SCOPES)
