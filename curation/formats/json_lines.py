"""JSON lines of conversations, many at a time: columns where a line is surely right, the reader of records elsewhere.

What a line must be to be surely right is told in `plain_lines`; the others, good or bad, are read record by record, so
both ways give the same rows and the same quarantine. The file is cut at fixed offsets, each moved to the next line's
beginning; a cut knows the number of its first line, so cuts can be read in any order and by any process.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa

from curation.arrays import listed, text_array
from curation.compiled import pays
from curation.formats.encodings import RecordError
from curation.formats.messages import MAX_ID_CHARS, SHAREGPT, Record, parse_object
from curation.formats.messages import MESSAGES as MESSAGES_FORM
from curation.formats.roles import IGNORE, Speakers, role_of
from curation.formats.streams import BOM, CHUNK_BYTES, MAX_LINE_BYTES
from curation.segments import RAW_SCHEMA

if TYPE_CHECKING:
    from curation.formats.plain_lines import Reading

FORMS = {MESSAGES_FORM: ("messages", "role", "content"), SHAREGPT: ("conversations", "from", "value")}
"""The members of the two forms: the list of turns, who speaks, what is said."""


@dataclass(frozen=True)
class Cut:
    """Whole lines of a plain file: bytes from `begin` to `end`, the first of them line `first_line`."""

    begin: int
    end: int
    first_line: int


@dataclass(frozen=True)
class CutRows:
    """What a cut holds: rows of RAW_SCHEMA, and the line and reason of each bad record."""

    rows: pl.DataFrame
    bad: list[tuple[int, str]]


ReadOne = Callable[[bytes], Record | str | None]
"""Reads one line: a record, the reason why it is none, or None for a blank line."""


def find_cuts(source: Path, cut_bytes: int) -> list[Cut] | None:
    """Where a plain file is cut; None if it may hold a line that is too long to be held.

    A cut holds the lines that begin within its `cut_bytes`, counted without a byte order mark.
    """
    with source.open("rb") as file:
        base = len(BOM) if file.read(len(BOM)) == BOM else 0
        file.seek(base)
        cuts, begin, first_line, line, position, last_end = [], base, 1, 1, base, base
        boundary = base + cut_bytes
        while chunk := file.read(CHUNK_BYTES):
            at = 0
            # A line begins after each line break; the first to begin at or behind the boundary begins a new cut.
            while (found := chunk.find(b"\n", max(at, boundary - 1 - position))) >= 0:
                line += chunk.count(b"\n", at, found + 1)
                at, start = found + 1, position + found + 1
                cuts.append(Cut(begin, start, first_line))
                begin, first_line = start, line
                boundary = base + ((start - base) // cut_bytes + 1) * cut_bytes
            line += chunk.count(b"\n", at)
            newest = chunk.rfind(b"\n")
            position += len(chunk)
            last_end = position - len(chunk) + newest + 1 if newest >= 0 else last_end
            if position - last_end > MAX_LINE_BYTES - 2 * CHUNK_BYTES:
                return None
        if position > begin:
            cuts.append(Cut(begin, position, first_line))
    return cuts


def read_cut(source: Path, cut: Cut, form: str, speakers: Speakers, prefix: str, read_one: ReadOne) -> CutRows:
    """Reads a cut. A conversation without an id is called `prefix:line`."""
    with source.open("rb") as file:
        file.seek(cut.begin)
        content = file.read(cut.end - cut.begin)
    lines = _lines(content, cut.first_line)
    plain = pl.DataFrame(schema=RAW_SCHEMA)
    if pays(len(content)):
        plain = _plain_rows(content, lines, form, speakers, prefix)
    rest = lines.join(plain.select("line"), on="line", how="anti", maintain_order="left")
    records: list[dict[str, Any]] = []
    bad: list[tuple[int, str]] = []
    for number, begin, end in rest.select("line", "begin", "end").iter_rows():
        found = read_one(content[begin:end])
        if isinstance(found, Record):
            named = found.id if found.id is not None else f"{prefix}:{number}"
            records.append(
                {"id": named, "line": number, "messages": found.messages, "user": found.user, "meta": found.meta}
            )
        elif found is not None:
            bad.append((number, sys.intern(found)))  # most lines are bad for one reason
    if not records:
        return CutRows(plain, bad)
    return CutRows(pl.concat([plain, pl.DataFrame(records, RAW_SCHEMA, orient="row")]).sort("line"), bad)


def _lines(content: bytes, first_line: int) -> pl.DataFrame:
    """The lines: number, and the bytes from `begin` to `end`, the line break left out."""
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n"))
    if not ends.size or ends[-1] + 1 < len(content):
        ends = np.append(ends, len(content))
    begins = np.concatenate([[0], ends[:-1] + 1])
    return pl.DataFrame({"line": np.arange(first_line, first_line + len(ends)), "begin": begins, "end": ends})


def _plain_rows(content: bytes, lines: pl.DataFrame, form: str, speakers: Speakers, prefix: str) -> pl.DataFrame:
    """Rows of RAW_SCHEMA of those lines that are surely right."""
    from curation.formats.plain_lines import read_lines

    sound = lines.filter(_are_utf8(content, lines))
    turns_key, speaker_key, text_key = (np.frombuffer(key.encode(), dtype=np.uint8) for key in FORMS[form])
    begins, ends = sound["begin"].to_numpy(), sound["end"].to_numpy()
    read = read_lines(np.frombuffer(content, dtype=np.uint8), begins, ends, (turns_key, speaker_key, text_key))
    names = [content[begin:end].decode() for begin, end in read.speakers.tolist()]
    roles = [_role(name, speakers.mapping) for name in names]
    frame = pl.DataFrame({"line": sound["line"].filter(pl.Series(read.taken)), "messages": _messages(read, roles)})
    ids = pl.Series([content[begin:end].decode() for begin, end in read.about[:, :2].tolist()], dtype=pl.String)
    user, is_user = _objects(content, read.about[:, 2:4], "user")
    meta, is_meta = _objects(content, read.about[:, 4:], "meta")
    line_of = np.repeat(np.arange(frame.height), np.diff(read.upto, prepend=0))
    unknown = np.array([role is None for role in roles], dtype=bool)[read.turns[:, 1]]
    is_known = np.bincount(line_of, unknown, minlength=frame.height) == 0
    sure = is_known & is_user & is_meta & (ids.str.len_chars() <= MAX_ID_CHARS).to_numpy()
    for number in np.unique(read.turns[sure[line_of], 1]).tolist():
        speakers.role_of(names[number])
    own = pl.concat_str(pl.lit(f"{prefix}:"), pl.col("line").cast(pl.String))
    named = pl.when(ids == "").then(own).otherwise(ids).alias("id")
    return frame.select(named, "line", "messages", user, meta).filter(pl.Series(sure)).cast(RAW_SCHEMA)


def _are_utf8(content: bytes, lines: pl.DataFrame) -> pl.Series:
    """Which lines can be decoded."""
    try:
        pl.Series([content]).cast(pl.String)
    except pl.exceptions.ComputeError:
        spans = lines.select("begin", "end").iter_rows()
        return pl.Series([_is_utf8(content[begin:end]) for begin, end in spans], dtype=pl.Boolean)
    return pl.repeat(value=True, n=lines.height, dtype=pl.Boolean, eager=True)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _role(name: str, mapping: Mapping[str, str]) -> str | None:
    """The role of a speaker whose turns are kept."""
    role = role_of(name, mapping) if name.strip() else None
    return None if role == IGNORE else role


def _messages(read: "Reading", roles: Sequence[str | None]) -> pl.Series:
    """The turns of each line; those of speakers without a role have none either."""
    said_by, weights = read.turns[:, 1], read.turns[:, 2]
    columns = {
        "role": pl.Series(roles, dtype=pl.String).gather(said_by),
        "content": text_array((np.concatenate([[0], read.turns[:, 0]]), read.said)),
        "weight": pa.array(weights, mask=weights < 0),
    }
    return listed(columns, np.concatenate([[0], read.upto]))


def _objects(content: bytes, spans: npt.NDArray[np.int64], field: str) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """The member `user` or `meta` of each line as canonical JSON, and whether it is as it should be."""
    read: list[str | None] = [None] * len(spans)
    is_right = np.ones(len(spans), dtype=bool)
    for row in np.flatnonzero(spans[:, 1]).tolist():
        begin, end = spans[row]
        try:
            read[row] = parse_object({field: orjson.loads(content[begin:end])}, field)
        except (orjson.JSONDecodeError, RecordError):
            is_right[row] = False
    return pl.Series(field, read, dtype=pl.String), is_right
