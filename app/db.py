"""The database: engines, sessions, and its clock.

The database is the record of truth. SQLite (WAL) and PostgreSQL serve alike: writers take SQLite's lock at their first
statement (`BEGIN IMMEDIATE`), so that a read never has to be upgraded and "database is locked" cannot happen midway.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from sqlalchemy import Connection, Engine, Float, FunctionElement, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler

from app.settings import get_settings

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 5
POOL_SIZE = 5
MAX_OVERFLOW = 27
"""Connections beyond the pool at a peak; a worker needs three."""
REQUEST_SESSIONS = 24
"""Sessions of requests at once in a process of the API.

Fewer than its 40 threads and than its connections: what is left goes to those who look at keys and kept answers.
"""


class clock_s(FunctionElement[float]):  # noqa: N801  (an SQL function, named as such)
    """Seconds on the database's own clock, the only one that leases are measured by.

    PostgreSQL: `clock_timestamp()`. SQLite: the machine's boot clock, so that a changed wall clock breaks nothing.
    """

    type = Float()
    inherit_cache = True
    name = "clock_s"


@compiles(clock_s, "postgresql")
def _clock_postgresql(element: clock_s, compiler: SQLCompiler, **kw: object) -> str:
    return "EXTRACT(EPOCH FROM clock_timestamp())::float8"


@compiles(clock_s, "sqlite")
def _clock_sqlite(element: clock_s, compiler: SQLCompiler, **kw: object) -> str:
    return "boot_clock_s()"


def _boot_clock_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, see _begin_sqlite
    connection.create_function("boot_clock_s", 0, _boot_clock_s)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@lru_cache(maxsize=4)
def engine_for(url: str) -> Engine:
    """The process's engine for `url`."""
    if not url.startswith("sqlite"):
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=POOL_SIZE,
            max_overflow=MAX_OVERFLOW,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "talkmill"},
        )
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def get_engine() -> Engine:
    """The engine that the settings name."""
    return engine_for(get_settings().sqlalchemy_url)


def insert(model: type[DeclarativeBase]) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT that knows what to do on a conflict: `on_conflict_do_nothing`, `on_conflict_do_update`."""
    return postgresql.insert(model) if get_engine().dialect.name == "postgresql" else sqlite.insert(model)


@contextmanager
def writing() -> Iterator[Session]:
    """A session that commits when its block ends and rolls back when it raises: the one edge where commits happen."""
    with Session(get_engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading() -> Iterator[Session]:
    """A session that never writes and never waits for a writer."""
    engine = get_engine().execution_options(writes=False)
    with Session(engine, expire_on_commit=False) as session:
        yield session
