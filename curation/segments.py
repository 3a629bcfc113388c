"""Segments on disk: the Parquet schemas of raw and curated conversations, atomic writes, row hashes and the digest.

A digest is over canonical rows, never over Parquet bytes: it depends neither on how a version was cut into segments
nor on who wrote them.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import polars as pl

Columns = dict[str, pl.DataType | type[pl.DataType]]
MESSAGES: pl.DataType = pl.List(pl.Struct({"role": pl.String, "content": pl.String, "weight": pl.Int64}))
USER: pl.Struct = pl.Struct(
    {
        "id": pl.String,
        "age": pl.Int64,
        "age_band": pl.String,
        "gender": pl.String,
        "province": pl.String,
        "city": pl.String,
        "country": pl.String,
        "crowd": pl.List(pl.String),
    }
)
USER_FIELDS = tuple(field.name for field in USER.fields)
RAW_COLUMNS: Columns = {
    "id": pl.String,
    "line": pl.Int64,
    "messages": MESSAGES,
    "user": pl.String,
    "meta": pl.String,
}
RAW_SCHEMA = pl.Schema(RAW_COLUMNS)
QUARANTINE_SCHEMA = pl.Schema({"line": pl.Int64, "reason": pl.String})
SEGMENT_COLUMNS: Columns = {
    "id": pl.String,
    "conversation_id": pl.String,
    "window": pl.Int64,
    "messages": MESSAGES,
    "user": USER,
    "meta": pl.String,
    "turns": pl.Int64,
    "characters": pl.Int64,
    "file": pl.Int64,
    "line": pl.Int64,
    "cut_replies": pl.List(pl.Int64),
    "row_sha256": pl.Binary,
}
"""`cut_replies`: places of the messages that are replies whose end was cut; null where there are none."""
SEGMENT_SCHEMA = pl.Schema(SEGMENT_COLUMNS)
DROPPED_SCHEMA = pl.Schema(
    {"conversation_id": pl.String, "operator": pl.String, "code": pl.String, "file": pl.Int64, "line": pl.Int64}
)
TRACE_SCHEMA = pl.Schema(
    {
        "conversation_id": pl.String,
        "turn": pl.Int64,
        "operator": pl.String,
        "code": pl.String,
        "action": pl.String,
        "before": pl.String,
        "after": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "score": pl.Float64,
    }
)
ARROW, PARQUET = ".arrow", ".parquet"
"""Ends of files' names: what lasts for one run, what is kept."""


def scan_raw(path: Path) -> pl.LazyFrame:
    """A raw segment, in either format."""
    return pl.scan_ipc(path) if path.suffix == ARROW else pl.scan_parquet(path)


def write_arrow(frame: pl.DataFrame, path: Path, *, packed: bool) -> None:
    """Writes a frame for the rest of a run; `packed` where it is sent about, else it is mapped by whoever reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")  # the frame may be mapped from the file that is replaced
    frame.write_ipc(temporary, compression="lz4" if packed else "uncompressed")
    temporary.replace(path)


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Writes a frame so that `path` appears complete, and on disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        frame.write_parquet(file, compression="zstd", statistics=True, row_group_size=5_000)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(value: object, path: Path) -> None:
    """Writes JSON so that `path` appears complete, and on disk, or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as users see it: without a weight that says nothing."""
    shown = {"role": message["role"], "content": message["content"]}
    return shown if message.get("weight") is None else {**shown, "weight": message["weight"]}


def canonical_user(user: Mapping[str, Any] | None) -> dict[str, Any]:
    """A user's known tags; unknown ones are absent."""
    return {field: value for field in USER_FIELDS if user and (value := user.get(field)) not in (None, [])}


def digest_rows(segments: Iterable[Path]) -> str:
    """The digest of a version: over its rows' hashes, in order."""
    digest = hashlib.sha256()
    for segment in segments:
        for row_hash in pl.read_parquet(segment, columns=["row_sha256"])["row_sha256"]:
            digest.update(row_hash)
    return f"sha256:{digest.hexdigest()}"
