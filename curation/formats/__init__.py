"""Ingest: an uploaded file becomes raw segments and a quarantine.

A file is cut at fixed offsets of its decompressed bytes, each moved to the next record's beginning, so the same
content always gives the same segments, however it was compressed, and memory is bounded by one of them. A bad record
costs only itself.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from curation.formats.columns import canonical
from curation.formats.conversations import parse_record
from curation.formats.cuts import ingest_cuts
from curation.formats.detect import JSONL, Detection, open_records
from curation.formats.encodings import RecordError
from curation.formats.flat_turns import FLAT_TURNS, FlatTurns
from curation.formats.ingested import (
    QUARANTINE_PARTS,
    Ingested,
    Quarantine,
    RawSegment,
    rename_repeated,
    repeated_ids,
    write_segment,
)
from curation.formats.json_lines import FORMS
from curation.formats.messages import Record
from curation.formats.readers import Item
from curation.formats.records import KINDS
from curation.formats.roles import Speakers
from curation.processes import Spread
from curation.segments import PARQUET, RAW_SCHEMA

__all__ = ["SEGMENT_BYTES", "Ingested", "RawSegment", "RecordError", "ingest", "repeated_ids"]

SEGMENT_BYTES = 16 * 2**20
QUARANTINED_AT_ONCE = 100_000
"""Bad records that are held in memory: of a segment's bytes, each may have two."""


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
    spread: Spread = map,
    suffix: str = PARQUET,
) -> Ingested:
    """Reads a file into `out/raw/00000.parquet…` and `out/quarantine.parquet`.

    `purpose` is conversations, or labels, pairs, preferences, lexicon, whose segments hold the columns of
    `records.KINDS`. `speakers` maps names to user, assistant, system or ignore, `columns` the file's column names to
    ours. `on_progress` is told how many decompressed bytes are read. `spread` may read cuts of JSON lines in other
    processes; what is written is the same. `suffix` is that of the raw segments: PARQUET, or ARROW for a run that
    reads them at once.

    Raises:
        InputError: the file is empty, is nothing that is read here, or lacks a column.
    """
    given = {theirs: canonical(ours) for theirs, ours in (columns or {}).items()}
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / QUARANTINE_PARTS, ignore_errors=True)
    heard = Speakers(speakers)
    detection, items = open_records(source, out, purpose=purpose, columns=given)
    warnings: list[str] = []
    quarantine = Quarantine(out)
    segments = None
    if _is_read_in_cuts(detection, purpose, given):
        segments = ingest_cuts(source, out, detection, sha256[:8], heard, segment_bytes, spread, on_progress, suffix)
    if segments is None:
        parsed = _parsed(items, detection, purpose, heard, given, out, warnings)
        writer = _Writer(out, sha256, purpose, quarantine, suffix)
        for _, part in groupby(parsed, key=lambda item: item.offset // segment_bytes):
            offset = writer.add(part)
            if on_progress is not None:
                on_progress(offset)
        segments = writer.segments
    quarantine.close(in_order=detection.format != FLAT_TURNS)
    renamed = 0 if purpose in KINDS else rename_repeated(segments, sha256)
    if renamed:
        warnings.append(f"{renamed} repeated conversation ids got the suffix #<sha256>:<line>")
    return Ingested(
        format=detection.format,
        segments=tuple(segments),
        quarantine=quarantine.path,
        conversations=sum(segment.conversations for segment in segments),
        turns=sum(segment.turns for segment in segments),
        quarantined=quarantine.num_bad,
        warnings=tuple(warnings),
        detection=_shown(detection, heard),
    )


def _is_read_in_cuts(detection: Detection, purpose: str, given: Mapping[str, str]) -> bool:
    """Whether the file is JSON lines of conversations in a form that is read many at a time."""
    lines = detection.container == JSONL and detection.encoding == "utf-8"
    return lines and purpose not in KINDS and not given and detection.format in FORMS


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
                value = parse_record(item.value, speakers, given, detection.format)
        except RecordError as error:
            value = error
        yield Item(item.number, item.offset, value)


class _Writer:
    """Writes segments and the quarantine, part by part, from records."""

    def __init__(self, out: Path, sha256: str, purpose: str, quarantine: Quarantine, suffix: str) -> None:
        self.segments: list[RawSegment] = []
        self._quarantine = quarantine
        self._out, self._sha256, self._suffix = out, sha256, suffix
        self._schema = KINDS[purpose].schema if purpose in KINDS else RAW_SCHEMA
        self._parts = 0

    def add(self, items: Iterator[Item]) -> int:
        """Writes one segment and its bad records; returns the last offset."""
        rows: list[dict[str, Any]] = []
        bad: list[tuple[int, str]] = []
        offset = 0
        for item in items:
            offset = item.offset
            if isinstance(item.value, RecordError):
                bad.append((item.number, str(item.value)))
                if len(bad) == QUARANTINED_AT_ONCE:
                    self._put_aside(bad)
            elif isinstance(item.value, Record):
                rows.append(self._row(item.number, item.value))
            else:
                rows.append({"line": item.number, **item.value})
        if rows:
            path = self._out / "raw" / f"{len(self.segments):05d}{self._suffix}"
            self.segments.append(write_segment(pl.DataFrame(rows, self._schema, orient="row"), path))
        self._put_aside(bad)
        return offset

    def _put_aside(self, bad: list[tuple[int, str]]) -> None:
        self._quarantine.add(bad, f"{self._parts:07d}")
        self._parts += 1
        bad.clear()

    def _row(self, line: int, record: Record) -> dict[str, Any]:
        name = record.id if record.id is not None else f"{self._sha256[:8]}:{line}"
        return {"id": name, "line": line, "messages": record.messages, "user": record.user, "meta": record.meta}


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
