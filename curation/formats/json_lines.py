"""JSON lines of conversations, many at a time: columns where a line is surely right, the reader of records elsewhere.

A line is surely right when one regular expression accepts all of it: an id, a list of turns, perhaps a user and
metadata, and nothing else. What the expression does not accept, good or bad, is read record by record, so both ways
give the same rows and the same quarantine. The file is cut at fixed offsets, each moved to the next line's beginning;
a cut knows the number of its first line, so cuts can be read in any order and by any process.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from curation.formats.messages import MAX_ID_CHARS, SHAREGPT, Record, parse_object
from curation.formats.messages import MESSAGES as MESSAGES_FORM
from curation.formats.roles import IGNORE, Speakers, role_of
from curation.formats.streams import BOM, CHUNK_BYTES, MAX_LINE_BYTES
from curation.segments import RAW_SCHEMA

SPACE = r"[ \t\r]*"
CHARACTERS = (
    r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    r"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))*"
)
STRING = f'"{CHARACTERS}"'
NUMBER = r"(?:0|-?[1-9][0-9]{0,17})"
SCALAR = rf"(?:{STRING}|{NUMBER}(?:\.[0-9]{{1,15}})?|true|false|null)"
FORMS = {MESSAGES_FORM: ("messages", "role", "content"), SHAREGPT: ("conversations", "from", "value")}
"""The members of the two forms: the list of turns, who speaks, what is said."""
MAX_SPEAKERS = 50
"""A part with more of them is read record by record."""


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
    plain = _plain_rows(lines, form, speakers, prefix)
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
            bad.append((number, found))
    if not records:
        return CutRows(plain, bad)
    return CutRows(pl.concat([plain, pl.DataFrame(records, RAW_SCHEMA, orient="row")]).sort("line"), bad)


def _lines(content: bytes, first_line: int) -> pl.DataFrame:
    """The lines: number, the bytes from `begin` to `end`, their `text`, null where that is no UTF-8."""
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
    if not ends.size or ends[-1] < len(content):
        ends = np.append(ends, len(content))
    begins = np.concatenate([[0], ends[:-1]])
    buffers = [None, pa.py_buffer(np.append(begins, len(content)).astype(np.int64)), pa.py_buffer(content)]
    binary = pl.Series(pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), buffers))
    try:
        text = binary.cast(pl.String)
    except pl.exceptions.ComputeError:
        text = pl.Series([_decoded(line) for line in binary], dtype=pl.String)
    numbers = np.arange(first_line, first_line + len(ends))
    return pl.DataFrame({"line": numbers, "begin": begins, "end": ends, "text": text})


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _plain_rows(lines: pl.DataFrame, form: str, speakers: Speakers, prefix: str) -> pl.DataFrame:
    """Rows of RAW_SCHEMA of those lines that are surely right."""
    turns, speaker, text = FORMS[form]
    plain = lines.filter(pl.col("text").str.contains(_pattern(form)).fill_null(value=False))
    turn = pl.Struct({speaker: pl.String, text: pl.String, "weight": pl.Int64})
    decoded = plain["text"].str.json_decode(pl.Struct({"id": pl.String, turns: pl.List(turn)}))
    frame = plain.select("line", *(_object(plain["text"], field) for field in ("user", "meta")))
    frame = frame.hstack(decoded.struct.unnest().rename({turns: "messages"}).get_columns())
    roles = _roles(_spoken(frame, speaker), speakers.mapping)
    said = pl.element().struct.field(speaker).replace_strict(roles, default=None, return_dtype=pl.String)
    message = pl.struct(
        said.alias("role"), pl.element().struct.field(text).alias("content"), pl.element().struct.field("weight")
    )
    known = pl.col("messages").list.eval(pl.element().struct.field(speaker).is_in(list(roles)).all()).list.first()
    short = pl.col("id").str.len_chars().fill_null(0) <= MAX_ID_CHARS
    sure = frame.filter(known & short)
    for name in _spoken(sure, speaker):
        speakers.role_of(name)
    own = pl.concat_str(pl.lit(f"{prefix}:"), pl.col("line").cast(pl.String))
    named = pl.when(pl.col("id").fill_null("") == "").then(own).otherwise("id").alias("id")
    return sure.select(named, "line", pl.col("messages").list.eval(message), "user", "meta").cast(RAW_SCHEMA)


def _spoken(frame: pl.DataFrame, speaker: str) -> list[str]:
    """Who speaks, in the order of their first turns."""
    return frame["messages"].explode().struct.field(speaker).unique(maintain_order=True).to_list()


def _roles(names: list[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Role by speaker, of those whose turns are kept."""
    if len(names) > MAX_SPEAKERS:
        return {}
    found = {name: role_of(name, mapping) for name in names if name.strip()}
    return {name: role for name, role in found.items() if role not in (None, IGNORE)}


def _pattern(form: str) -> str:
    """Accepts a whole line of the form, and nothing that the reader of records would take otherwise."""
    turns, speaker, text = FORMS[form]

    def member(key: str, value: str) -> str:
        return f'"{key}"{SPACE}:{SPACE}{value}'

    comma = f"{SPACE},{SPACE}"
    message = (
        rf"\{{{SPACE}{member(speaker, STRING)}{comma}{member(text, STRING)}"
        rf"(?:{comma}{member('weight', '(?:0|1|null)')})?{SPACE}\}}"
    )
    listed = member(turns, rf"\[{SPACE}{message}(?:{comma}{message})*{SPACE}\]")
    name = member("id", f"(?:{STRING}|{NUMBER}|null)")
    user, meta = member("user", _FLAT), member("meta", _FLAT)
    about = f"(?:(?:{comma}{user})?(?:{comma}{meta})?|{comma}{meta}{comma}{user})"
    return rf"^{SPACE}\{{{SPACE}(?:{name}{comma}{listed}|{listed}(?:{comma}{name})?){about}{SPACE}\}}{SPACE}\n?$"


_MEMBER = rf"{STRING}{SPACE}:{SPACE}{SCALAR}"
_FLAT = rf"\{{{SPACE}(?:{_MEMBER}(?:{SPACE},{SPACE}{_MEMBER})*)?{SPACE}\}}"


def _object(texts: pl.Series, field: str) -> pl.Series:
    """The member `user` or `meta` of each line as canonical JSON."""
    found = texts.str.extract(rf'"{field}"{SPACE}:{SPACE}({_FLAT})', 1)
    if found.null_count() == len(found):
        return found.alias(field)
    return pl.Series(field, list(_canonical(found, field)), pl.String)


def _canonical(found: pl.Series, field: str) -> Iterator[str | None]:
    for text in found:
        yield None if text is None else parse_object({field: orjson.loads(text)}, field)
