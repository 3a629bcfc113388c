"""Ingest: an uploaded file becomes raw segments and a quarantine.

A file is cut at fixed offsets of its decompressed bytes, each moved to the next record's beginning, so the same
content always gives the same segments, however it was compressed, and memory is bounded by one of them. A bad record
costs only itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curation.formats.alpaca import ALPACA, is_alpaca, parse_alpaca
from curation.formats.columns import canonical
from curation.formats.detect import Detection, open_records
from curation.formats.encodings import RecordError
from curation.formats.flat_turns import FLAT_TURNS, FlatTurns
from curation.formats.messages import Record, kind_of, parse_turns, turns_key
from curation.formats.readers import Item
from curation.formats.records import KINDS
from curation.formats.roles import Speakers
from curation.segments import RAW_SCHEMA, write_parquet

__all__ = ["PURPOSES", "SEGMENT_BYTES", "Ingested", "RawSegment", "RecordError", "ingest", "repeated_ids"]

SEGMENT_BYTES = 32 * 2**20
PURPOSES = ("conversations", *KINDS)
QUARANTINE_ARROW = pa.schema([("line", pa.int64()), ("reason", pa.string())])
"""The reason of each bad record, by line; written segment by segment."""
BROKEN_OFF = "the file breaks off: see the last line of its quarantine"


@dataclass(frozen=True)
class RawSegment:
    """A written segment of conversations, or of other records, as they came in."""

    path: Path
    conversations: int
    """Records, where they are no conversations."""
    turns: int


@dataclass(frozen=True)
class Ingested:
    """What became of a file: in = conversations + quarantined."""

    format: str
    segments: tuple[RawSegment, ...]
    quarantine: Path
    conversations: int
    turns: int
    quarantined: int
    warnings: tuple[str, ...]
    detection: dict[str, Any] = field(default_factory=dict)
    """Container, compression, encoding, columns and the roles of speakers, as the file's owner is shown them."""


def ingest(
    source: Path,
    out: Path,
    *,
    sha256: str,
    purpose: str = "conversations",
    speakers: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    on_progress: Callable[[int], None] | None = None,
) -> Ingested:
    """Reads a file into `out/raw/00000.parquet…` and `out/quarantine.parquet`.

    `purpose` is conversations, or labels, pairs, preferences, lexicon, whose segments hold the columns of
    `records.KINDS`. `speakers` maps names to user, assistant, system or ignore, `columns` the file's column names to
    ours. `on_progress` is told how many decompressed bytes are read.

    Raises:
        InputError: the file is empty, is nothing that is read here, or lacks a column.
    """
    given = {theirs: canonical(ours) for theirs, ours in (columns or {}).items()}
    out.mkdir(parents=True, exist_ok=True)
    heard = Speakers(speakers)
    detection, items = open_records(source, out, purpose=purpose, columns=given)
    warnings: list[str] = []
    parsed = _parsed(items, detection, purpose, heard, given, out, warnings)
    written = _Writer(out, sha256, None if purpose in KINDS else RAW_SCHEMA, purpose)
    for _, part in groupby(parsed, key=lambda item: item.offset // segment_bytes):
        offset = written.add(part)
        if on_progress is not None:
            on_progress(offset)
    written.close()
    renamed = 0 if purpose in KINDS else _rename_repeated(written.segments, sha256)
    if renamed:
        warnings.append(f"{renamed} repeated conversation ids got the suffix #<sha256>:<line>")
    return Ingested(
        format=detection.format,
        segments=tuple(written.segments),
        quarantine=out / "quarantine.parquet",
        conversations=sum(segment.conversations for segment in written.segments),
        turns=sum(segment.turns for segment in written.segments),
        quarantined=written.quarantined,
        warnings=tuple(warnings),
        detection=_shown(detection, heard),
    )


def repeated_ids(segments: list[tuple[Path, str]]) -> list[dict[int, str]]:
    """New ids of conversations whose id stood before, per raw segment by line.

    `segments` are raw segments in order, each with its file's SHA-256. The first of a repeated id keeps it.
    """
    if not segments:
        return []
    ids = pl.concat([pl.scan_parquet(path).select("id") for path, _ in segments])
    repeated = ids.group_by("id").len().filter(pl.col("len") > 1).select("id").collect(engine="streaming")["id"]
    seen: set[str] = set()
    renames: list[dict[int, str]] = []
    for path, sha256 in segments:
        renames.append({})
        if repeated.is_empty():
            continue
        rows = pl.scan_parquet(path).select("id", "line").filter(pl.col("id").is_in(repeated.implode())).collect()
        for old, line in rows.iter_rows():
            new = old if old not in seen else f"{old}#{sha256[:8]}:{line}"
            while new in seen:
                new += "'"
            seen.add(new)
            if new != old:
                renames[-1][line] = new
    return renames


def _parsed(
    items: Iterator[Item],
    detection: Detection,
    purpose: str,
    speakers: Speakers,
    given: Mapping[str, str],
    out: Path,
    warnings: list[str],
) -> Iterator[Item]:
    """The items with what they mean in place of what they say: stored columns, a Record, or a RecordError."""
    if detection.format == FLAT_TURNS:
        table = FlatTurns(out, speakers, given)
        yield from table.group(items)
        warnings.extend(table.warnings)
        return
    for item in items:
        try:
            if isinstance(item.value, RecordError):
                raise item.value
            if purpose in KINDS:
                value: Any = KINDS[purpose].read(item.value, given)
            else:
                value = _conversation(item.value, speakers, given, detection.format)
        except RecordError as error:
            value = error
        yield Item(item.number, item.offset, value)


def _conversation(value: object, speakers: Speakers, given: Mapping[str, str], form: str) -> Record:
    if not isinstance(value, dict):
        raise RecordError(f"the record is a JSON {kind_of(value)}, not an object with `messages`")
    if turns_key(value, given) is None and (form == ALPACA or is_alpaca(value, given)):
        return parse_alpaca(value, given)
    return parse_turns(value, speakers, given)


class _Writer:
    """Writes segments and the quarantine, part by part."""

    def __init__(self, out: Path, sha256: str, schema: pl.Schema | None, purpose: str) -> None:
        self.segments: list[RawSegment] = []
        self.quarantined = 0
        self._out, self._sha256 = out, sha256
        self._schema = schema if schema is not None else KINDS[purpose].schema
        self._temporary = out / ".quarantine.parquet.new"
        self._quarantine = pq.ParquetWriter(self._temporary, QUARANTINE_ARROW, compression="zstd")
        self._last_line, self._in_order = 0, True

    def add(self, items: Iterator[Item]) -> int:
        """Writes one segment and its bad records; returns the last offset."""
        rows: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        offset = 0
        for item in items:
            offset = item.offset
            if isinstance(item.value, RecordError):
                bad.append({"line": item.number, "reason": str(item.value)})
                self._in_order &= item.number >= self._last_line
                self._last_line = item.number
            elif isinstance(item.value, Record):
                rows.append(self._row(item.number, item.value))
            else:
                rows.append({"line": item.number, **item.value})
        if rows:
            self._write(pl.DataFrame(rows, self._schema, orient="row"))
        if bad:
            self._quarantine.write_table(pa.Table.from_pylist(bad, QUARANTINE_ARROW))
            self.quarantined += len(bad)
        return offset

    def close(self) -> None:
        """Puts the quarantine into the order of lines and in its place."""
        self._quarantine.close()
        target = self._out / "quarantine.parquet"
        if not self._in_order:
            pl.scan_parquet(self._temporary).sort("line", maintain_order=True).sink_parquet(target)
            self._temporary.unlink()
        else:
            self._temporary.replace(target)

    def _row(self, line: int, record: Record) -> dict[str, Any]:
        name = record.id if record.id is not None else f"{self._sha256[:8]}:{line}"
        return {"id": name, "line": line, "messages": record.messages, "user": record.user, "meta": record.meta}

    def _write(self, frame: pl.DataFrame) -> None:
        path = self._out / "raw" / f"{len(self.segments):05d}.parquet"
        write_parquet(frame, path)
        talks = self._schema is RAW_SCHEMA
        turns = int(frame["messages"].list.len().sum()) if talks else 0
        self.segments.append(RawSegment(path, frame.height, turns))


def _rename_repeated(segments: list[RawSegment], sha256: str) -> int:
    renames = repeated_ids([(segment.path, sha256) for segment in segments])
    for segment, ids in zip(segments, renames, strict=True):
        if ids:
            frame = pl.read_parquet(segment.path)
            new = pl.col("line").replace_strict(ids, default=None, return_dtype=pl.String)
            write_parquet(frame.with_columns(id=pl.coalesce(new, "id")), segment.path)
    return sum(map(len, renames))


def _shown(detection: Detection, speakers: Speakers) -> dict[str, Any]:
    found = {
        "container": detection.container,
        "compression": detection.compression,
        "encoding": detection.encoding,
        "delimiter": detection.delimiter,
        "columns": dict(detection.columns),
        "speakers": speakers.seen,
    }
    return {key: value for key, value in found.items() if value not in (None, {})}
