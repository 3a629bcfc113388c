"""Blobs that nothing names any more: set aside a day after they were stored, removed a week after that.

What names a blob is found without knowing any table: every text and JSON value that holds 64 hexadecimal digits, and
every version's manifest. So a table that is added tomorrow counts too, and a mistake keeps too much rather than too
little. Even so nothing is removed at once: a blob that is set aside comes back when it is asked for by name, and when
something names it again.
"""

import logging
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Select, String, Table, and_, cast, delete, exists, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from app.db import reading, writing
from app.models import Base, JobEvent, JobMetric, KnownResult, Version, Work
from app.settings import get_settings
from app.store import Store, get_store

log = logging.getLogger(__name__)

DAY_S = 86_400.0
NAMELESS_S = DAY_S
"""A younger blob may be about to be named by a transaction that is still open."""
ASIDE_S = 7 * DAY_S
NAME = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
NAMELESS_TABLES = frozenset({JobEvent.__tablename__, JobMetric.__tablename__})
"""Large, and of a form that names no blob."""
SETTLED = ("succeeded", "cancelled")
"""Versions whose manifest alone says what they need, no longer the results of their shards."""


@dataclass
class Collected:
    """What a collection found and did."""

    kept: int = 0
    set_aside: int = 0
    set_aside_bytes: int = 0
    taken_back: int = 0
    removed: int = 0
    removed_bytes: int = 0


def collect(*, dry_run: bool = False) -> Collected:
    """Looks at every blob of the store once; with `dry_run` only says what it would do.

    Memory does not grow with the store: names are gathered on disk.

    Raises:
        FileNotFoundError: the store lacks a version's manifest, so what the version needs is not known.
        OSError: the store is away.
    """
    store, now = get_store(), time.time()
    if not dry_run:
        _forget_results(now - get_settings().keep_results_days * DAY_S)
        store.remove_unfinished(now - NAMELESS_S)
    with tempfile.TemporaryDirectory() as folder, closing(_Names(Path(folder) / "names")) as names:
        with reading() as session:
            names.add(_named(session))
            manifests = session.scalars(
                select(Version.manifest_sha256).where(Version.manifest_sha256.is_not(None))
            ).all()
        for sha256 in manifests:
            names.add(NAME.findall(b"".join(store.chunks(str(sha256))).decode()))
        return _sort(store, names, now, dry_run=dry_run)


def _sort(store: Store, names: "_Names", now: float, *, dry_run: bool) -> Collected:
    done = Collected()
    for blob in store.aside():
        if blob.sha256 in names:
            done.taken_back += dry_run or store.take_back(blob.sha256)
        elif blob.since < now - ASIDE_S:
            if not dry_run:
                store.remove_aside(blob.sha256)
            done.removed += 1
            done.removed_bytes += blob.bytes
    for blob in store.kept():
        if blob.since < now - NAMELESS_S and blob.sha256 not in names and (dry_run or store.set_aside(blob)):
            done.set_aside += 1
            done.set_aside_bytes += blob.bytes
        else:
            done.kept += 1
    return done


def _forget_results(before: float) -> None:
    """Results of segments that no version asked for lately are not known any more."""
    with writing() as session:
        session.execute(delete(KnownResult).where(KnownResult.used_at < before))


def _named(session: Session) -> Iterator[str]:
    """Every name of a blob in the database, many of them more than once."""
    for table in Base.metadata.sorted_tables:
        columns = [cast(column, String) for column in table.c if isinstance(column.type, String | JSON)]
        if table.name in NAMELESS_TABLES or not columns:
            continue
        for row in session.execute(_rows(table, columns).execution_options(yield_per=1000)):
            for value in row:
                if value is not None:
                    yield from NAME.findall(value)


def _rows(table: Table, columns: Sequence[ColumnElement[str]]) -> Select[*tuple[Any, ...]]:
    rows: Select[*tuple[Any, ...]] = select(*columns).select_from(table)
    if table.name != Work.__tablename__:
        return rows
    settled = exists().where(and_(Version.id == table.c.subject, Version.status.in_(SETTLED)))
    return rows.where(~settled)


class _Names:
    """A set of names on disk."""

    def __init__(self, path: Path) -> None:
        self._rows = sqlite3.connect(path, isolation_level=None)
        self._rows.execute("PRAGMA journal_mode = OFF")
        self._rows.execute("CREATE TABLE names (name BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, names: Iterable[str]) -> None:
        self._rows.execute("BEGIN")
        self._rows.executemany("INSERT OR IGNORE INTO names VALUES (?)", ((bytes.fromhex(name),) for name in names))
        self._rows.execute("COMMIT")

    def __contains__(self, name: str) -> bool:
        found = self._rows.execute("SELECT 1 FROM names WHERE name = ?", (bytes.fromhex(name),)).fetchone()
        return found is not None

    def close(self) -> None:
        self._rows.close()
