"""Brings the database's tables to the revision that this code needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, select

from app.db import get_engine
from app.models import Base

MIGRATIONS = Path(__file__).parent.parent / "migrations"


ADVISORY_LOCK = 7_245_501_986
"""Any number that nobody else uses in the database."""


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """PostgreSQL: waits for whoever migrates now. SQLite's own lock does it from a migration's first statement on."""
    engine = get_engine()
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.begin() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        yield


@lru_cache(maxsize=1)
def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(revision: str = "head") -> None:
    """Upgrades to `revision`; nothing to do on a current database. Two processes at once take turns."""
    with _one_at_a_time():
        command.upgrade(_config(), revision)


def downgrade(revision: str) -> None:
    """Goes back to `revision`, `base` for empty."""
    with _one_at_a_time():
        command.downgrade(_config(), revision)


def differences(connection: Connection) -> list[object]:
    """What the models have and the migrated tables have not, or the other way round; empty when they agree."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
    return list(compare_metadata(context, Base.metadata))


def check() -> list[object]:
    """Upgrades the (empty) database the settings name and compares it with the models."""
    upgrade()
    with get_engine().connect() as connection:
        return differences(connection)
