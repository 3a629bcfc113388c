"""What a file is: its compression, container, encoding, and the form of its records, from its first bytes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from curation.errors import InputError
from curation.formats import flat_turns
from curation.formats.alpaca import ALPACA, is_alpaca
from curation.formats.columns import NAMES, folded, shown
from curation.formats.encodings import encoding_of
from curation.formats.messages import MESSAGES, SHAREGPT, is_sharegpt, turns_key
from curation.formats.readers import (
    Item,
    read_csv,
    read_json_array,
    read_json_document,
    read_json_lines,
    read_words,
)
from curation.formats.records import KINDS
from curation.formats.streams import BOM, MAX_LINE_BYTES, BrokenStreamError, compression_of, read_chunks

SAMPLE_BYTES = 1 << 18
SAMPLE_RECORDS = 100
JSONL, JSON, CSV, PARQUET, WORDS = "jsonl", "json", "csv", "parquet", "text"
DELIMITERS = (",", "\t", ";", "|", "，")
KNOWN_NAMES = frozenset(folded(name) for names in NAMES.values() for name in names)
FOREIGN = {
    b"PK\x03\x04": "a zip archive or an office document: export it as CSV",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"BZh": "compressed by bzip2: use gzip or zstd",
    b"\xfd7zXZ": "compressed by xz: use gzip or zstd",
    b"ORC": "an ORC file: write it as Parquet",
}
ACCEPTED = "send JSONL, JSON, CSV or Parquet, plain or compressed by gzip or zstd"


@dataclass(frozen=True)
class Detection:
    """How a file is read."""

    container: str
    compression: str | None
    encoding: str | None
    delimiter: str | None
    format: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """Of a table: ours → theirs."""


def open_records(
    source: Path, folder: Path, *, purpose: str, columns: Mapping[str, str]
) -> tuple[Detection, Iterator[Item]]:
    """How the file is read, and its records. `folder` holds what must be unpacked first.

    Raises:
        InputError: the file is empty, or nothing that is read here.
    """
    with source.open("rb") as file:
        compression = compression_of(file.read(4))
    sample = _sample(source, compression)
    if sample.startswith(b"PAR1"):
        from curation.formats.parquet_rows import read_parquet  # pyarrow is slow to load

        unpacked = source if compression is None else _unpacked(source, compression, folder)
        return _detected(Detection(PARQUET, compression, None, None, ""), read_parquet(unpacked), purpose, columns)
    _refuse_foreign(sample)
    encoding = encoding_of(sample)
    container, delimiter = _container(sample, encoding, purpose, columns)
    chunks = read_chunks(source, compression)
    if container == JSONL:
        items = read_json_lines(chunks, encoding)
    elif container == CSV:
        items = read_csv(chunks, encoding, delimiter or ",")
    elif container == WORDS:
        items = read_words(chunks, encoding)
    elif sample.lstrip().startswith(b"["):
        items = read_json_array(chunks, encoding)
    else:
        items = read_json_document(_document(chunks), encoding)
    found = Detection(container, compression, encoding, delimiter if container == CSV else None, "")
    return _detected(found, items, purpose, columns)


def _detected(
    found: Detection, items: Iterator[Item], purpose: str, columns: Mapping[str, str]
) -> tuple[Detection, Iterator[Item]]:
    """Looks at the first records for their form."""
    first: list[Item] = []
    for item in items:
        first.append(item)
        if len(first) >= SAMPLE_RECORDS or item.offset - first[0].offset > SAMPLE_BYTES:
            break
    items = chain(first, items)
    if purpose in KINDS:
        return Detection(**{**vars(found), "format": purpose}), items
    records = [item.value for item in first if isinstance(item.value, dict) and item.value]
    votes = Counter(form for form in (_form(record, columns) for record in records) if form is not None)
    if not votes and records and found.container in (CSV, PARQUET):
        names = list(map(str, records[0]))
        unknown = sorted(set(columns) - set(names))
        if unknown:
            raise InputError(f"columns: the file has no column {shown(unknown)}, but {shown(names)}")
        raise flat_turns.missing_columns(names, columns)
    form = votes.most_common(1)[0][0] if votes else MESSAGES
    table = next((r for r in records if _form(r, columns) == form), {}) if form == flat_turns.FLAT_TURNS else {}
    resolved = flat_turns.columns_of(list(map(str, table)), columns) or {}
    return Detection(**{**vars(found), "format": form, "columns": resolved}), items


def _form(record: dict[str, Any], columns: Mapping[str, str]) -> str | None:
    key = turns_key(record, columns)
    if key is not None:
        return SHAREGPT if is_sharegpt(record, key) else MESSAGES
    if is_alpaca(record, columns):
        return ALPACA
    return flat_turns.FLAT_TURNS if flat_turns.columns_of(list(map(str, record)), columns) else None


def _sample(source: Path, compression: str | None) -> bytes:
    """The first decompressed bytes."""
    sample = b""
    try:
        for chunk in read_chunks(source, compression):
            sample += chunk
            if len(sample) >= SAMPLE_BYTES:
                break
    except BrokenStreamError as error:
        if not sample.strip():
            raise InputError(f"nothing can be read: {error}") from None
    if not sample.removeprefix(BOM).strip():
        raise InputError("the file is empty")
    return sample[:SAMPLE_BYTES]


def _refuse_foreign(sample: bytes) -> None:
    for magic, kind in FOREIGN.items():
        if sample.startswith(magic):
            raise InputError(f"the file is {kind}; {ACCEPTED}")
    if b"\x00" in sample:
        raise InputError(f"the file is binary; {ACCEPTED}")


def _container(sample: bytes, encoding: str, purpose: str, columns: Mapping[str, str]) -> tuple[str, str | None]:
    """The container, and the delimiter of a CSV."""
    text = sample if encoding == "utf-8" else sample.decode(encoding, "replace").encode()
    lines = [line for line in text.split(b"\n") if line.strip()]
    complete = lines if len(lines) == 1 else lines[: -1 if len(sample) == SAMPLE_BYTES else None]
    begins = sample.lstrip()[:1]
    if begins == b"[":
        # A first line that is a whole JSON value, with more behind it, is a line of JSON lines.
        return (JSONL, None) if len(lines) > 1 and _is_json(lines[0]) else (JSON, None)
    objects = sum(line.lstrip().startswith(b"{") and _is_json(line) for line in complete[:50])
    if begins == b"{":
        single = len(complete) > 1 and objects == 0 and not any(_is_json(line) for line in complete[1:50])
        return (JSON if single and _looks_pretty(complete) else JSONL), None
    header = lines[0].decode("utf-8", "replace").rstrip("\r")
    known = {folded(name) for name in columns} | KNOWN_NAMES
    counts = [sum(folded(cell.strip('"')) in known for cell in header.split(d)) for d in DELIMITERS]
    best = max(range(len(DELIMITERS)), key=lambda i: (counts[i], header.count(DELIMITERS[i])))
    if objects and not counts[best]:
        return JSONL, None
    if purpose == "lexicon" and not counts[best]:
        return WORDS, None
    if not counts[best] and not header.count(DELIMITERS[best]):
        return (JSONL if objects or len(lines) == 1 else CSV), DELIMITERS[best]
    return CSV, DELIMITERS[best]


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _looks_pretty(lines: list[bytes]) -> bool:
    """Whether a document is one object over several lines: the second line is indented or a member."""
    return lines[0].strip() == b"{" or lines[1].lstrip()[:1] in (b'"', b"[", b"{", b"}")


def _document(chunks: Iterator[bytes]) -> bytes:
    content = b""
    for chunk in chunks:
        content += chunk
        if len(content) > MAX_LINE_BYTES:
            raise InputError(
                f"the file is one JSON object of more than {MAX_LINE_BYTES // 2**20} MiB: send an array, or JSON lines"
            )
    return content


def _unpacked(source: Path, compression: str, folder: Path) -> Path:
    """A compressed Parquet file must be unpacked to be read at any place."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "unpacked.parquet"
    try:
        with target.open("wb") as file:
            file.writelines(read_chunks(source, compression))
    except BrokenStreamError as error:
        raise InputError(f"the Parquet file cannot be read: {error}") from None
    return target
