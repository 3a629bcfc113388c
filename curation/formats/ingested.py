"""What ingest leaves: raw segments, a quarantine, and conversation ids that differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from curation.segments import ARROW, QUARANTINE_SCHEMA, RAW_SCHEMA, scan_raw, write_arrow, write_parquet

ROWS_AT_ONCE = 100_000
"""Reasons that become columns at once, since as Python's objects they take much memory."""
QUARANTINE_PARTS = ".quarantine"
"""Folder of the quarantine's parts, until they are joined."""


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


def write_segment(frame: pl.DataFrame, path: Path) -> RawSegment:
    """Writes a raw segment: Parquet, or Arrow's format where the path ends so."""
    if path.suffix == ARROW:
        write_arrow(frame, path, packed=False)
    else:
        write_parquet(frame, path)
    turns = int(frame["messages"].list.len().sum()) if frame.schema == RAW_SCHEMA else 0
    return RawSegment(path, frame.height, turns)


class Quarantine:
    """The reason of each bad record, by line: written part by part, then put into the order of lines."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "quarantine.parquet"
        self.num_bad = 0
        self._parts = folder / QUARANTINE_PARTS

    def add(self, bad: Sequence[tuple[int, str]], name: str) -> None:
        """Writes some bad records under a name of their own; any process may."""
        parts = (bad[start : start + ROWS_AT_ONCE] for start in range(0, len(bad), ROWS_AT_ONCE))
        frames = [pl.DataFrame(part, QUARANTINE_SCHEMA, orient="row") for part in parts]
        if frames:
            write_parquet(pl.concat(frames), self._parts / f"{name}.parquet")

    def close(self, *, in_order: bool = True) -> None:
        """Joins the parts, whose lines may not be in order from one to the next."""
        parts = sorted(self._parts.glob("*.parquet"))
        if parts:
            joined = pl.scan_parquet(parts)
            (joined if in_order else joined.sort("line", maintain_order=True)).sink_parquet(self.path)
            self.num_bad = pl.scan_parquet(self.path).select(pl.len()).collect().item()
        else:
            write_parquet(pl.DataFrame(schema=QUARANTINE_SCHEMA), self.path)
        for part in parts:
            part.unlink()


def repeated_ids(segments: Sequence[tuple[Path, str]]) -> list[dict[int, str]]:
    """New ids of conversations whose id stood before, per raw segment by line.

    `segments` are raw segments in order, each with its file's SHA-256. The first of a repeated id keeps it.
    """
    if not segments:
        return []
    ids = pl.concat([scan_raw(path).select("id") for path, _ in segments])
    repeated = ids.group_by("id").len().filter(pl.col("len") > 1).select("id").collect(engine="streaming")["id"]
    seen: set[str] = set()
    renames: list[dict[int, str]] = []
    for path, sha256 in segments:
        renames.append({})
        if repeated.is_empty():
            continue
        rows = scan_raw(path).select("id", "line").filter(pl.col("id").is_in(repeated.implode())).collect()
        for old, line in rows.iter_rows():
            new = old if old not in seen else f"{old}#{sha256[:8]}:{line}"
            while new in seen:
                new += "'"
            seen.add(new)
            if new != old:
                renames[-1][line] = new
    return renames


def rename_repeated(segments: Sequence[RawSegment], sha256: str) -> int:
    """Gives the repeated ids of one file new ones, in place; returns how many."""
    renames = repeated_ids([(segment.path, sha256) for segment in segments])
    for segment, ids in zip(segments, renames, strict=True):
        if ids:
            frame = scan_raw(segment.path).collect()
            new = pl.col("line").replace_strict(ids, default=None, return_dtype=pl.String)
            write_segment(frame.with_columns(id=pl.coalesce(new, "id")), segment.path)
    return sum(map(len, renames))
