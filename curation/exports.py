"""A version in the forms that other tools open: OpenAI, ShareGPT and Alpaca JSONL, and one Parquet file.

Tools read JSONL by blocks and infer types from the first one, so every line of an export has the same members: what
occurs anywhere in the version stands in each line, where unknown as null, lists and objects as empty ones (readers
take a null for text until told otherwise). Memory is bounded by one batch of rows.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import CurationError
from curation.segments import USER_FIELDS, canonical_user

BATCH_ROWS = 2_000
COLUMNS = ["id", "messages", "user", "meta"]
SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
JSON_LINES = "application/jsonl"
MEDIA_TYPES = {
    "openai": JSON_LINES,
    "sharegpt": JSON_LINES,
    "alpaca": JSON_LINES,
    "parquet": "application/vnd.apache.parquet",
}
MESSAGE_ARROW = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int64())])
USER_ARROW = pa.struct(
    [
        (name, pa.list_(pa.string()) if name == "crowd" else pa.int64() if name == "age" else pa.string())
        for name in USER_FIELDS
    ]
)
PARQUET_ARROW = pa.schema(
    [
        ("id", pa.string()),
        ("conversation_id", pa.string()),
        ("window", pa.int64()),
        ("messages", pa.list_(MESSAGE_ARROW)),
        ("user", USER_ARROW),
        ("meta", pa.string()),
    ]
)
"""`window` is 0 for a whole conversation; `meta` is JSON, since no two conversations need the same members."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What occurs anywhere in a version, and so stands in every line."""

    user_fields: tuple[str, ...]
    weight: bool
    """Some reply carries a weight: then all do, 1 where nothing was said."""
    meta: bool


def export_version(segments: Sequence[Path], format: str) -> Iterator[bytes]:
    """The kept rows of a version, as the bytes of a file, in pieces.

    Raises:
        CurationError: an unknown format.
    """
    if format not in MEDIA_TYPES:
        raise CurationError(f"unknown format {format}: any of {', '.join(MEDIA_TYPES)}")
    return _parquet(segments) if format == "parquet" else _json_lines(segments, LINES[format])


def shape_of(segments: Sequence[Path]) -> Shape:
    """Looks through a version for what its lines must have in common."""
    message = pl.col("messages").explode().struct
    weighed = (message.field("role") == "assistant") & message.field("weight").is_not_null()
    user = pl.col("user").struct
    known = [_is_known(user.field(name), name).any().alias(name) for name in USER_FIELDS]
    found = [
        pl.scan_parquet(path)
        .select(*known, weighed.any().alias("weight"), pl.col("meta").is_not_null().any())
        .collect(engine="streaming")
        .row(0, named=True)
        for path in segments
    ]
    occurs = {name for one in found for name, yes in one.items() if yes}
    return Shape(tuple(name for name in USER_FIELDS if name in occurs), "weight" in occurs, "meta" in occurs)


def _is_known(value: pl.Expr, name: str) -> pl.Expr:
    return value.list.len() > 0 if name == "crowd" else value.is_not_null()


def _json_lines(segments: Sequence[Path], line_of: Callable[[Row, Shape], Row]) -> Iterator[bytes]:
    shape = shape_of(segments)
    for path in segments:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=COLUMNS):
                rows = batch.to_pylist()
                yield b"".join(orjson.dumps(line_of(row, shape) | _extras(row, shape)) + b"\n" for row in rows)


def _extras(row: Row, shape: Shape) -> Row:
    """The members beside a format's own, which its tools pass over: user and meta."""
    extras: Row = {}
    if shape.user_fields:
        known = canonical_user(row["user"])
        extras["user"] = {name: known.get(name, [] if name == "crowd" else None) for name in shape.user_fields}
    if shape.meta:
        extras["meta"] = {} if row["meta"] is None else orjson.loads(row["meta"])
    return extras


def _weight(message: Row, shape: Shape) -> Row:
    if not shape.weight or message["role"] != "assistant":
        return {}
    return {"weight": 1 if message["weight"] is None else message["weight"]}


def _openai(row: Row, shape: Shape) -> Row:
    """Chat fine-tuning JSONL; `weight` only on replies, as the format allows."""
    messages = [{"role": m["role"], "content": m["content"], **_weight(m, shape)} for m in row["messages"]]
    return {"id": row["id"], "messages": messages}


def _sharegpt(row: Row, shape: Shape) -> Row:
    """Turns with from and value; the weight is an extra member of a turn."""
    turns = [{"from": SPEAKERS[m["role"]], "value": m["content"], **_weight(m, shape)} for m in row["messages"]]
    return {"id": row["id"], "conversations": turns}


def _alpaca(row: Row, _: Shape) -> Row:
    """Pairs of instruction and output, the last one apart; an empty side means that there is no such turn.

    The format has no place for weights, nor for a system message between the turns: they are joined at its front.
    """
    system = [message["content"] for message in row["messages"] if message["role"] == "system"]
    pairs = _pairs([message for message in row["messages"] if message["role"] != "system"])
    instruction, output = pairs[-1] if pairs else ("", "")
    history = [list(pair) for pair in pairs[:-1]]
    return {
        "id": row["id"],
        "instruction": instruction,
        "input": "",
        "output": output,
        "history": history,
        "system": "\n".join(system),
    }


def _pairs(turns: Sequence[Row]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    asked: str | None = None
    for turn in turns:
        if turn["role"] == "assistant":
            pairs.append((asked or "", turn["content"]))
            asked = None
        else:
            if asked is not None:
                pairs.append((asked, ""))
            asked = turn["content"]
    return pairs if asked is None else [*pairs, (asked, "")]


LINES: dict[str, Callable[[Row, Shape], Row]] = {"openai": _openai, "sharegpt": _sharegpt, "alpaca": _alpaca}


def _parquet(segments: Sequence[Path]) -> Iterator[bytes]:
    """One Parquet file, a row group a batch, handed on as it is written."""
    sink = _Sink()
    with pq.ParquetWriter(sink, PARQUET_ARROW, compression="zstd") as writer:
        for path in segments:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=PARQUET_ARROW.names):
                    writer.write_table(pa.Table.from_batches([batch]).select(PARQUET_ARROW.names).cast(PARQUET_ARROW))
                    yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that can only be written to, and gives away what was."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        return taken
