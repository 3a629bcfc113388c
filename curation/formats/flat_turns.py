"""Conversations as tables: one turn a row, with a conversation's id, a speaker, a text and perhaps a time.

Rows of a conversation may stand anywhere in the file, so they are grouped on disk, by SQLite, within a fixed amount of
memory. Conversations come out in the order of their first rows; a conversation's turns by time where each has one,
else by their number where each has one, else as they stand.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from curation.errors import InputError
from curation.formats.columns import resolve, shown
from curation.formats.encodings import RecordError
from curation.formats.messages import MAX_ID_CHARS, Record, canonical_json, role_for
from curation.formats.readers import Item
from curation.formats.roles import IGNORE, Speakers
from curation.formats.streams import MAX_LINE_BYTES
from curation.formats.times import iso_time, seconds_of

FLAT_TURNS = "flat_turns"
REQUIRED = ("conversation_id", "speaker", "text")
USER_FIELDS = ("id", "age", "birth_year", "gender", "phone", "province", "city", "country", "crowd")
WANTED = (*REQUIRED, "time", "turn", *(f"user.{field}" for field in USER_FIELDS))
INSERTED_ROWS = 5_000
TABLES = """
CREATE TABLE turns (
    conversation TEXT, line INTEGER, place INTEGER, at REAL, turn REAL, role TEXT, text TEXT, extra TEXT,
    PRIMARY KEY (conversation, line)
) WITHOUT ROWID;
CREATE TABLE conversations (line INTEGER PRIMARY KEY, place INTEGER, conversation TEXT);
"""


def columns_of(names: Iterator[str] | list[str], given: Mapping[str, str]) -> dict[str, str] | None:
    """Which columns hold what, ours → theirs; None if one that must be there is not.

    A plain `id` is the conversation's where nothing else is.
    """
    names = list(names)
    found = resolve(names, WANTED, given)
    if "conversation_id" not in found:
        plain = resolve(names, ("id",), {}).get("id")
        if plain is not None:
            found["conversation_id"] = plain
    return found if all(name in found for name in REQUIRED) else None


def missing_columns(names: list[str], given: Mapping[str, str]) -> InputError:
    """Says which columns a table lacks, and the way out."""
    found = resolve(names, WANTED, given)
    lacking = [name for name in REQUIRED if name not in found]
    return InputError(
        f"no column for {', '.join(lacking)}: the file has {shown(names)}; name them with the upload's `columns` "
        'field, such as {"your name": "' + lacking[0] + '"}'
    )


class FlatTurns:
    """The rows of one file, on their way to conversations."""

    def __init__(self, folder: Path, speakers: Speakers, given: Mapping[str, str]) -> None:
        self._path = folder / "turns.db"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._speakers, self._given = speakers, given
        self._known: dict[tuple[str, ...], tuple[dict[str, str], list[tuple[str, str]]]] = {}
        self.warnings: list[str] = []

    def group(self, rows: Iterator[Item]) -> Iterator[Item]:
        """Bad rows first, as they stand; then the conversations, each as a Record with its first row's number."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
                database.execute(f"PRAGMA {pragma}")
            database.executescript(TABLES)
            yield from self._store(database, rows)
            yield from self._conversations(database)
        self._path.unlink()

    def _store(self, database: sqlite3.Connection, rows: Iterator[Item]) -> Iterator[Item]:
        bad = 0
        while batch := list(islice(rows, INSERTED_ROWS)):
            turns = []
            for row in batch:
                try:
                    if isinstance(row.value, RecordError):
                        raise row.value
                    turn = self._turn(row.value)
                except RecordError as error:
                    bad += 1
                    yield Item(row.number, row.offset, error)
                else:
                    turns.append((turn[0], row.number, row.offset, *turn[1:]))
            database.execute("BEGIN")
            database.executemany("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?)", turns)
            database.execute("COMMIT")
        if bad:
            self.warnings.append(f"{bad} rows are quarantined: the conversations they belong to lack these turns")

    def _turn(self, row: object) -> tuple[str, float | None, float | None, str, str, bytes | None]:
        """Conversation, time, turn number, role, text, and the rest as JSON."""
        if not isinstance(row, dict):
            raise RecordError("the row must be an object")
        names, others = self._columns(tuple(map(str, row)))
        conversation = _cell(row[names["conversation_id"]])
        if not conversation or len(conversation) > MAX_ID_CHARS:
            where = names["conversation_id"]
            raise RecordError(f"`{where}` must be the conversation's id, of at most {MAX_ID_CHARS} characters")
        role = role_for(_cell(row[names["speaker"]]), names["speaker"], self._speakers)
        at = seconds_of(row[names["time"]]) if "time" in names else None
        turn = seconds_of(row[names["turn"]]) if "turn" in names else None
        extra = {ours: value for key, ours in others if (value := row[key]) is not None and value != ""}
        packed = orjson.dumps(extra, default=str, option=orjson.OPT_NON_STR_KEYS) if extra else None
        return conversation, at, turn, role, _cell(row[names["text"]]), packed

    def _columns(self, names: tuple[str, ...]) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """Which of a row's columns hold what, ours → theirs; and the rest, as (theirs, `user.` or `meta.` and a name).

        Raises:
            RecordError: a column is lacking.
        """
        if names not in self._known:
            found = columns_of(list(names), self._given)
            if found is None:
                raise RecordError(str(missing_columns(list(names), self._given)))
            theirs = {name: ours for ours, name in found.items()}
            called = [(name, theirs.get(name, f"meta.{name}")) for name in names]
            others = [(name, ours) for name, ours in called if ours.startswith(("user.", "meta."))]
            self._known = {names: (found, others)}  # rows of one form stand together
        return self._known[names]

    def _conversations(self, database: sqlite3.Connection) -> Iterator[Item]:
        first = "SELECT min(line), min(place), conversation FROM turns GROUP BY conversation"
        database.execute(f"INSERT INTO conversations {first}")
        reordered = 0
        query = "SELECT at, turn, role, text, extra FROM turns WHERE conversation = ? ORDER BY line"
        for line, place, conversation in database.execute("SELECT * FROM conversations ORDER BY line"):
            size = database.execute(
                "SELECT sum(length(CAST(text AS BLOB))) FROM turns WHERE conversation = ?", (conversation,)
            ).fetchone()[0]
            if size > MAX_LINE_BYTES:
                reason = f"the conversation is longer than {MAX_LINE_BYTES // 2**20} MiB: is its id the right column?"
                yield Item(line, place, RecordError(reason))
                continue
            turns = database.execute(query, (conversation,)).fetchall()
            ordered = _in_order(turns)
            reordered += ordered != turns
            yield Item(line, place, _record(conversation, ordered))
        if reordered:
            self.warnings.append(f"{reordered} conversations had turns out of order; they were sorted by time")


def _in_order(turns: list[Any]) -> list[Any]:
    """By time if each turn has one, else by its number if each has one; what is equal stays as it stands."""
    for key in (0, 1):
        if all(turn[key] is not None for turn in turns):
            return sorted(turns, key=lambda turn: turn[key])
    return turns


def _record(conversation: str, turns: list[Any]) -> Record | RecordError:
    messages = [{"role": role, "content": text, "weight": None} for _, _, role, text, _ in turns if role != IGNORE]
    if not messages:
        return RecordError("the conversation holds only ignored speakers")
    user: dict[str, Any] = {}
    metas: dict[str, list[Any]] = {}
    for *_, extra in turns:
        for key, value in orjson.loads(extra).items() if extra else ():
            part, _, name = key.partition(".")
            if part == "user":
                user.setdefault(name, value)
            else:
                metas.setdefault(name, []).append(value)
    meta = {name: values[0] for name, values in metas.items() if all(value == values[0] for value in values)}
    started = min((turn[0] for turn in turns if turn[0] is not None), default=None)
    if started is not None and (time := iso_time(started)) is not None:
        meta.setdefault("time", time)
    return Record(conversation, messages, canonical_json(user), canonical_json(meta))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)
