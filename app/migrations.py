"""Brings the database's tables to the revision that this code needs."""

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from app.db import get_engine
from app.models import Base

MIGRATIONS = Path(__file__).parent.parent / "migrations"


@lru_cache(maxsize=1)
def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(revision: str = "head") -> None:
    """Upgrades to `revision`; nothing to do on a current database."""
    command.upgrade(_config(), revision)


def downgrade(revision: str) -> None:
    """Goes back to `revision`, `base` for empty."""
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
