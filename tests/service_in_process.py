"""The service in the test's own process, under settings of the test's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient

from app import migrations
from app.auth import SCOPES, create_key
from app.db import engine_for, get_engine, writing
from app.main import create_app
from app.settings import get_settings


@contextmanager
def service_in_process(env: Mapping[str, str]) -> Iterator[TestClient]:
    """The API on the database, broker and store that `env` names, which the processes that a test starts find too.

    The client shows a key of all scopes.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        get_settings.cache_clear()
        migrations.upgrade()
        with writing() as session:
            _, token = create_key(session, "test", sorted(SCOPES))
        yield TestClient(create_app(), headers={"Authorization": f"Bearer {token}"})
        get_engine().dispose()
        engine_for.cache_clear()
    get_settings.cache_clear()
