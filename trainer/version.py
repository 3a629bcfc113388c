"""Reading a dataset version: its manifest and its conversations."""

import hashlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.config import ConfigError
from trainer.dialogues import Message

FORMAT = "talkmill.version/1"
COLUMNS = ["id", "conversation_id", "window", "messages", "user", "cut_replies"]
PART_ROWS = 1_000


@dataclass(frozen=True)
class Conversation:
    """A kept row of a version: a conversation, or a window of one."""

    id: str
    conversation_id: str
    group: str
    """Who must not be split between training and validation: the user, else the conversation itself."""
    messages: list[Message]
    has_later_window: bool = False
    """Whether the conversation goes on in another row, which holds its last reply; told by reading in order."""


@dataclass(frozen=True)
class DatasetVersion:
    """A version on disk."""

    manifest: dict[str, Any]
    folder: Path

    @property
    def digest(self) -> str:
        """Identifies the version's content."""
        return str(self.manifest["digest"])

    def conversations(self) -> Iterator[Conversation]:
        """All kept rows, in order; memory is bounded by a part.

        Raises:
            ConfigError: a segment is damaged.
        """
        for part in self.parts():
            yield from read_part(self.folder, part)

    def find(self, rows: Set[str]) -> Iterator[Conversation]:
        """The kept rows with these ids, in order.

        Raises:
            ConfigError: a segment is damaged.
        """
        for part in self.parts():
            names = _read(self.folder / part.segment, ["id"], part.start, part.rows)["id"].to_pylist()
            if places := [place for place, name in enumerate(names) if name in rows]:
                table = _read(self.folder / part.segment, COLUMNS, part.start, part.rows)
                for row in table.take(places).to_pylist():
                    yield _conversation(row, has_later_window=False)

    def parts(self) -> list["SegmentPart"]:
        """The version in parts of equal size, in order."""
        return [
            SegmentPart(segment["path"], segment["sha256"], start, min(PART_ROWS, segment["rows"] - start))
            for segment in self.manifest["segments"]
            for start in range(0, segment["rows"], PART_ROWS)
        ]

    def conversations_and_groups(self) -> Iterator[tuple[list[str], list[str]]]:
        """Of each segment, every row's conversation and group."""
        for segment in self.manifest["segments"]:
            table = _read(self.folder / segment["path"], ["conversation_id", "user"])
            names = table["conversation_id"].to_pylist()
            yield names, [_group(name, user) for name, user in zip(names, table["user"].to_pylist(), strict=True)]

    def check_segment(self, path: str) -> None:
        """Compares a segment with its checksum.

        Raises:
            ConfigError: it is missing, or another one.
        """
        (wanted,) = {segment["sha256"] for segment in self.manifest["segments"] if segment["path"] == path}
        try:
            with (self.folder / path).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(f"data.version: cannot read {path}: {error.strerror}") from None
        if found != wanted:
            raise ConfigError(f"data.version: {path} is not what the manifest says it is: damaged or exchanged")


@dataclass(frozen=True)
class SegmentPart:
    """Consecutive rows of one segment of a version."""

    segment: str
    sha256: str
    start: int
    rows: int

    @property
    def name(self) -> str:
        """Says what is in it, by content: another version with this segment has the same part."""
        return f"{self.sha256[:32]}-{self.start:08d}"


def read_part(folder: Path, part: SegmentPart) -> Iterator[Conversation]:
    """A part's rows, in order.

    Raises:
        ConfigError: the segment cannot be read.
    """
    rows = _read(folder / part.segment, COLUMNS, part.start, part.rows + 1).to_pylist()
    for row, following in zip_longest(rows[: part.rows], rows[1 : part.rows + 1]):
        goes_on = following is not None and following["window"] > row["window"] > 0
        yield _conversation(row, has_later_window=goes_on)


def open_version(manifest: str) -> DatasetVersion:
    """Opens a version by its manifest's path.

    Raises:
        ConfigError: there is none, or it is of another format.
    """
    path = Path(manifest)
    if path.is_dir():
        path = path / "manifest.json"
    try:
        body = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise ConfigError(f"data.version: no manifest of a dataset version at {path}") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ConfigError(f"data.version: {path} is not of the format {FORMAT}")
    return DatasetVersion(body, path.parent)


def check_bounds(version: DatasetVersion, max_source_length: int, max_target_length: int) -> None:
    """Refuses lengths beyond what the version kept.

    Raises:
        ConfigError: naming the field.
    """
    bounds = version.manifest["bounds"]
    for name, wanted in (("max_source_length", max_source_length), ("max_target_length", max_target_length)):
        if bounds is not None and wanted > bounds[name]:
            raise ConfigError(f"data.{name}: the version was truncated to {bounds[name]}, {wanted} is beyond it")


def _read(path: Path, columns: list[str], start: int = 0, rows: int | None = None) -> pa.Table:
    """Some rows of a Parquet file, of which only the row groups that hold them are read."""
    try:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
            end = sum(sizes) if rows is None else start + rows
            firsts = list(accumulate(sizes, initial=0))
            wanted = [i for i, size in enumerate(sizes) if firsts[i] < end and firsts[i] + size > start]
            table = file.read_row_groups(wanted, columns, use_threads=False)
            return table.slice(start - firsts[wanted[0]] if wanted else 0, end - start)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"data.version: cannot read {path.name}: {error}") from None


def _conversation(row: dict[str, Any], *, has_later_window: bool) -> Conversation:
    group = _group(row["conversation_id"], row["user"])
    for place in row.get("cut_replies") or ():
        row["messages"][place]["cut"] = True
    return Conversation(row["id"], row["conversation_id"], group, row["messages"], has_later_window)


def _group(conversation_id: str, user: dict[str, Any] | None) -> str:
    user_id = (user or {}).get("id")
    return f"user:{user_id}" if user_id else f"conversation:{conversation_id}"
