"""Ingest: an uploaded file becomes raw segments and a quarantine.

A file is cut at fixed offsets of its bytes, each moved to the next record's beginning, so the same file always gives
the same segments and memory is bounded by one of them. A bad record costs only itself.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import InputError
from curation.formats import messages
from curation.formats.messages import RecordError
from curation.segments import RAW_SCHEMA, write_parquet

SEGMENT_BYTES = 32 * 2**20
MAX_LINE_BYTES = 16 * 2**20
SNIFFED_BYTES = 8192
QUARANTINE_ARROW = pa.schema([("line", pa.int64()), ("reason", pa.string())])
"""The reason of each bad record, by line; written segment by segment."""
BOM = b"\xef\xbb\xbf"
MAGIC = {
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x1f\x8b": "compressed by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file",
    b"\x89PNG": "a picture",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


@dataclass(frozen=True)
class RawSegment:
    """A written segment of conversations as they came in."""

    path: Path
    conversations: int
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


@dataclass(frozen=True)
class Line:
    """A record's bytes, None where it is too long to be held, and where it stands."""

    number: int
    offset: int
    content: bytes | None


def ingest(
    source: Path,
    out: Path,
    *,
    sha256: str,
    speakers: Mapping[str, str] | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    on_progress: Callable[[int], None] | None = None,
) -> Ingested:
    """Reads a file of conversations into `out/raw/00000.parquet…` and `out/quarantine.parquet`.

    `on_progress` is told the number of bytes read after each segment.

    Raises:
        InputError: the file is empty or is no text.
    """
    _refuse_unreadable(source)
    segments: list[RawSegment] = []
    quarantined = 0
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / ".quarantine.parquet.new"
    with pq.ParquetWriter(temporary, QUARANTINE_ARROW, compression="zstd") as quarantine:
        for _, lines in groupby(_lines(source), key=lambda line: line.offset // segment_bytes):
            bad: list[dict[str, Any]] = []
            rows = list(_conversations(lines, sha256, speakers or {}, bad))
            if rows:
                segments.append(_write_segment(rows, out / "raw" / f"{len(segments):05d}.parquet"))
            if bad:
                quarantine.write_table(pa.Table.from_pylist(bad, QUARANTINE_ARROW))
                quarantined += len(bad)
            if on_progress is not None:
                on_progress(segment_bytes)
    temporary.replace(out / "quarantine.parquet")
    renamed = _rename_repeated(segments, sha256)
    return Ingested(
        format=messages.NAME,
        segments=tuple(segments),
        quarantine=out / "quarantine.parquet",
        conversations=sum(segment.conversations for segment in segments),
        turns=sum(segment.turns for segment in segments),
        quarantined=quarantined,
        warnings=(f"{renamed} repeated conversation ids got the suffix #<sha256>:<line>",) if renamed else (),
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


def _refuse_unreadable(source: Path) -> None:
    with source.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    if len(head) < SNIFFED_BYTES and not head.removeprefix(BOM).strip():
        raise InputError("the file is empty")
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise InputError(f"the file is {kind}: send conversations as UTF-8 JSONL, one JSON object a line")
    if b"\x00" in head:
        raise InputError("the file is binary: send conversations as UTF-8 JSONL, one JSON object a line")


def _lines(source: Path) -> Iterator[Line]:
    """Non-blank lines; of a line that is too long only its place is kept."""
    with source.open("rb", buffering=1 << 20) as file:
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        number = 0
        while True:
            offset = file.tell()
            content = file.readline(MAX_LINE_BYTES + 1)
            if not content:
                return
            number += 1
            if len(content) > MAX_LINE_BYTES:
                while content and not content.endswith(b"\n"):
                    content = file.readline(1 << 20)
                yield Line(number, offset, None)
            elif content.strip():
                yield Line(number, offset, content)


def _conversations(
    lines: Iterator[Line], sha256: str, speakers: Mapping[str, str], quarantine: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            if line.content is None:
                raise RecordError(f"the record is longer than {MAX_LINE_BYTES // 2**20} MiB: split the conversation")
            record = messages.parse_record(line.content, speakers)
        except RecordError as error:
            quarantine.append({"line": line.number, "reason": str(error)})
            continue
        yield {
            "id": record.id if record.id is not None else f"{sha256[:8]}:{line.number}",
            "line": line.number,
            "messages": record.messages,
            "user": record.user,
            "meta": record.meta,
        }


def _write_segment(rows: list[dict[str, Any]], path: Path) -> RawSegment:
    frame = pl.DataFrame(rows, RAW_SCHEMA, orient="row")
    write_parquet(frame, path)
    return RawSegment(path, frame.height, int(frame["messages"].list.len().sum()))


def _rename_repeated(segments: list[RawSegment], sha256: str) -> int:
    renames = repeated_ids([(segment.path, sha256) for segment in segments])
    for segment, ids in zip(segments, renames, strict=True):
        if ids:
            frame = pl.read_parquet(segment.path)
            new = pl.col("line").replace_strict(ids, default=None, return_dtype=pl.String)
            write_parquet(frame.with_columns(id=pl.coalesce(new, "id")), segment.path)
    return sum(map(len, renames))
