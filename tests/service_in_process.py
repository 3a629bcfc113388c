"""The service in the test's own process, under settings of the test's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app import migrations
from app.auth import SCOPES, create_key
from app.db import engine_for, get_engine, reading, writing
from app.main import create_app
from app.models import Work
from app.settings import get_settings
from worker.tasks import do


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


def do_pending_work() -> None:
    """Does in this process what workers would do, and what follows from it."""
    while True:
        with reading() as session:
            ids = session.scalars(select(Work.id).where(Work.state == "pending").order_by(Work.created_at)).all()
        if not ids:
            return
        for work_id in ids:
            do(work_id)
