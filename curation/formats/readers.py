"""Containers: JSON lines, JSON arrays, CSV and plain lists become records, one at a time (Parquet: `parquet_rows`).

A record that cannot be read is passed on as its reason and costs only itself. A record's number is its line; where
several stand on one line (a JSON array without line breaks) it grows by one, so that it always names one record.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from curation.errors import InputError
from curation.formats.columns import shown
from curation.formats.csv_rows import read_rows
from curation.formats.encodings import RecordError, decoded
from curation.formats.json_array import read_elements
from curation.formats.streams import read_lines

MAX_COLUMNS = 5_000


@dataclass(frozen=True)
class Item:
    """A record, or the RecordError why it is none; `offset` grows with the bytes before it."""

    number: int
    offset: int
    value: Any


def read_json_lines(chunks: Iterator[bytes], encoding: str) -> Iterator[Item]:
    """One JSON value a line; blank lines are none."""
    for line in read_lines(chunks):
        if line.content is None:
            yield Item(line.number, line.offset, RecordError(line.reason))
        elif line.content.strip():
            yield Item(line.number, line.offset, read_value(line.content, encoding))


def read_json_array(chunks: Iterator[bytes], encoding: str) -> Iterator[Item]:
    """The elements of one JSON array."""
    number = 0
    for line, offset, content in read_elements(chunks):
        number = max(number + 1, line)
        value = RecordError(content) if isinstance(content, str) else read_value(content, encoding)
        yield Item(number, offset, value)


def read_json_document(content: bytes, encoding: str) -> Iterator[Item]:
    """One JSON object: the records in its first list of objects (`data`, `items`…), or itself as the one record.

    Raises:
        InputError: it is no JSON.
    """
    value = read_value(content, encoding)
    if isinstance(value, RecordError):
        raise InputError(f"the file is one JSON document, and {value}")
    wrapped = [
        value[key] for key in ("data", "items", "records", "rows", "results") if isinstance(value.get(key), list)
    ]
    for number, record in enumerate(wrapped[0] if wrapped else [value], 1):
        yield Item(number, number, record)


def read_csv(chunks: Iterator[bytes], encoding: str, delimiter: str) -> Iterator[Item]:
    """Rows as objects by the header's names; cells may hold line breaks. A row of another width is a bad record.

    Raises:
        InputError: the first line cannot name the columns.
    """
    rows = read_rows(read_lines(chunks), encoding, delimiter)
    _, header = next(rows, (None, None))
    if header is None or isinstance(header, RecordError):
        raise InputError(f"the first line must name the columns{f': {header}' if header else ''}")
    names = [name.strip() for name in header]
    while names and not names[-1]:
        names.pop()
    refuse_repeated(names)
    for line, row in rows:
        if isinstance(row, RecordError):
            yield Item(line.number, line.offset, row)
            continue
        while len(row) > len(names) and not row[-1].strip():
            row.pop()
        if len(row) != len(names) and any(row):
            reason = f"the row has {len(row)} cells, the header has {len(names)} columns"
            yield Item(line.number, line.offset, RecordError(reason))
        elif "".join(row).strip():
            yield Item(line.number, line.offset, dict(zip(names, row, strict=True)))


def read_words(chunks: Iterator[bytes], encoding: str) -> Iterator[Item]:
    """One word a line; a line that begins with `# ` is a comment."""
    for line in read_lines(chunks):
        if line.content is None:
            yield Item(line.number, line.offset, RecordError(line.reason))
        elif line.content.strip() and not line.content.startswith(b"# "):
            try:
                yield Item(line.number, line.offset, {"word": decoded(line.content, encoding).strip()})
            except RecordError as error:
                yield Item(line.number, line.offset, error)


def read_value(content: bytes, encoding: str) -> Any:
    """The JSON value, or the RecordError why there is none."""
    try:
        return orjson.loads(content if encoding == "utf-8" else decoded(content, encoding))
    except RecordError as error:
        return error
    except orjson.JSONDecodeError as error:
        try:
            decoded(content, encoding)
        except RecordError as bad:
            return bad
        return RecordError(f"not valid JSON at column {error.colno}")


def refuse_repeated(names: list[str]) -> None:
    """Raises InputError where two columns have one name, or there are more than any table of conversations has."""
    if len(names) > MAX_COLUMNS:
        raise InputError(f"the table has {len(names):,} columns, at most {MAX_COLUMNS:,} are read")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"several columns have the same name: {shown(repeated)}")
