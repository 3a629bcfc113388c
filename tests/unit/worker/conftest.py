"""A real SQLite database in a new folder for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import migrations
from app.db import get_engine
from app.settings import get_settings


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    migrations.upgrade()
    yield
    get_engine().dispose()
    get_settings.cache_clear()
