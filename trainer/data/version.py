"""Reading a dataset version: its manifest and its conversations, all of them or a slice by tags."""

import hashlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.config import ConfigError
from trainer.data.slices import Where, matches
from trainer.dialogues import Message

FORMAT = "talkmill.version/1"
COLUMNS = ["id", "conversation_id", "window", "messages", "user", "cut_replies"]
PART_ROWS = 1_000
ROWS_AT_ONCE = 100
"""That become objects, which take several times what the columns do."""
READ_BYTES = 1 << 16
"""Of a column that are read from the file at a time."""


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
    field: str = "data.version"
    """The setting that names it, for what is said of it."""

    @property
    def digest(self) -> str:
        """Identifies the version's content."""
        return str(self.manifest["digest"])

    def conversations(self, where: Where = ()) -> Iterator[Conversation]:
        """The kept rows, in order; memory is bounded by a part.

        Raises:
            ConfigError: a segment is damaged.
        """
        for part in self.parts(where):
            yield from read_part(part)

    def find(self, rows: Set[str]) -> Iterator[Conversation]:
        """The kept rows with these ids, in order.

        Raises:
            ConfigError: a segment is damaged.
        """
        for part in self.parts():
            names = part.read(["id"])["id"].to_pylist()
            if places := [place for place, name in enumerate(names) if name in rows]:
                for row in part.read(COLUMNS).take(places).to_pylist():
                    yield _conversation(row, has_later_window=False)

    def parts(self, where: Where = ()) -> list["SegmentPart"]:
        """The version, or a slice of it, in parts of equal size, in order."""
        return [
            SegmentPart(
                self.folder, segment["path"], segment["sha256"], start, min(PART_ROWS, segment["rows"] - start),
                tuple(sorted(set(where))), self.field,
            )
            for segment in self.manifest["segments"]
            for start in range(0, segment["rows"], PART_ROWS)
        ]  # fmt: skip

    def names(self, where: Where = ()) -> Iterator[tuple[list[str], list[str]]]:
        """Of each segment, the conversations of its rows and their groups."""
        for path in self._paths("segments"):
            table = _read(self.folder / path, self.field, ["conversation_id", "user"])
            table = table.filter(matches(table["user"], where)) if where else table
            names = table["conversation_id"].to_pylist()
            users = pc.struct_field(table["user"], "id").to_pylist()
            yield names, [group_of(name, user) for name, user in zip(names, users, strict=True)]

    def dropped_names(self) -> Iterator[list[str]]:
        """Of each segment, the conversations that curation dropped."""
        for path in self._paths("dropped"):
            yield _read(self.folder / path, self.field, ["conversation_id"])["conversation_id"].to_pylist()

    def texts(self, *, max_chars: int) -> Iterator[str]:
        """What messages say: of every row, or of one in so many that it is about `max_chars` characters."""
        paths = self._paths("segments")
        chars = sum(
            pc.sum(_read(self.folder / path, self.field, ["characters"])["characters"]).as_py() or 0 for path in paths
        )
        every, before = max(1, -(-chars // max_chars)), 0
        for part in self.parts():
            places = list(range(-before % every, part.rows, every))
            before += part.rows
            if places:
                for messages in part.read(["messages"])["messages"].take(places).to_pylist():
                    yield from (message["content"] for message in messages)

    def _paths(self, kind: str) -> list[str]:
        return [part["path"] for part in self.manifest.get(kind, ())]


@dataclass(frozen=True)
class SegmentPart:
    """Consecutive rows of one segment of a version, or those of them that meet conditions."""

    folder: Path
    segment: str
    sha256: str
    start: int
    rows: int
    where: tuple[str, ...] = ()
    field: str = "data.version"

    @property
    def name(self) -> str:
        """Says what is in it, by content: another version with this segment has the same part."""
        slice_name = f"-{hashlib.sha256(orjson.dumps(self.where)).hexdigest()[:16]}" if self.where else ""
        return f"{self.sha256[:32]}-{self.start:08d}{slice_name}"

    def read(self, columns: list[str]) -> pa.Table:
        """Columns of the rows, whether they meet the conditions or not.

        Raises:
            ConfigError: the segment cannot be read.
        """
        return _read(self.folder / self.segment, self.field, columns, self.start, self.rows)

    def check(self) -> None:
        """Compares the segment with its checksum.

        Raises:
            ConfigError: it is missing, or another one.
        """
        try:
            with (self.folder / self.segment).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(f"{self.field}: cannot read {self.segment}: {error.strerror}") from None
        if found != self.sha256:
            reason = f"{self.segment} is not what the manifest says it is: damaged or exchanged"
            raise ConfigError(f"{self.field}: {reason}")


def read_part(part: SegmentPart) -> Iterator[Conversation]:
    """A part's rows, in order.

    Raises:
        ConfigError: the segment cannot be read.
    """
    is_in = np.ones(part.rows, np.bool_)
    if part.where:
        is_in = matches(part.read(["user"])["user"], part.where)
        if not is_in.any():
            return
    path = part.folder / part.segment
    windows = _read(path, part.field, ["window"], part.start, part.rows + 1)["window"].to_pylist()
    goes_on = [later > window > 0 for window, later in pairwise([*windows, 0])]
    places = iter(np.flatnonzero(is_in).tolist())
    for batch in part.read(COLUMNS).filter(pa.array(is_in)).to_batches(max_chunksize=ROWS_AT_ONCE):
        for row in batch.to_pylist():
            yield _conversation(row, has_later_window=goes_on[next(places)])


def open_version(manifest: str, field: str = "data.version") -> DatasetVersion:
    """Opens a version by its manifest's path, which the setting `field` gives.

    Raises:
        ConfigError: there is none, or it is of another format.
    """
    path = Path(manifest)
    if path.is_dir():
        path = path / "manifest.json"
    try:
        body = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise ConfigError(f"{field}: no manifest of a dataset version at {path}") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ConfigError(f"{field}: {path} is not of the format {FORMAT}")
    return DatasetVersion(body, path.parent, field)


def check_bounds(version: DatasetVersion, max_source_length: int, max_target_length: int) -> None:
    """Refuses lengths beyond what the version kept.

    Raises:
        ConfigError: naming the field.
    """
    bounds = version.manifest["bounds"]
    which = "the version" if version.field == "data.version" else version.field
    for name, wanted in (("max_source_length", max_source_length), ("max_target_length", max_target_length)):
        if bounds is not None and wanted > bounds[name]:
            raise ConfigError(f"data.{name}: {which} was truncated to {bounds[name]}, {wanted} is beyond it")


def _read(path: Path, field: str, columns: list[str], start: int = 0, rows: int | None = None) -> pa.Table:
    """Some rows of a Parquet file; of the row groups that hold them no more is decoded at once than a part."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            if rows is None:
                return file.read(columns, use_threads=False)
            sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
            firsts = list(accumulate(sizes, initial=0))
            wanted = [i for i, size in enumerate(sizes) if firsts[i] < start + rows and firsts[i] + size > start]
            found, place, end = [], firsts[wanted[0]] if wanted else 0, start + rows
            for batch in file.iter_batches(PART_ROWS, wanted, columns, use_threads=False):
                if place + batch.num_rows > start:
                    found.append(batch.slice(max(0, start - place), end - max(start, place)))
                place += batch.num_rows
                if place >= end:
                    break
            return pa.Table.from_batches(found) if found else file.read_row_groups([], columns)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{field}: cannot read {path.name}: {error}") from None


def _conversation(row: dict[str, Any], *, has_later_window: bool) -> Conversation:
    group = group_of(row["conversation_id"], (row["user"] or {}).get("id"))
    for place in row.get("cut_replies") or ():
        row["messages"][place]["cut"] = True
    return Conversation(row["id"], row["conversation_id"], group, row["messages"], has_later_window)


def group_of(conversation_id: str, user_id: str | None) -> str:
    """Who must not be split between training and validation: the user, else the conversation."""
    return f"user:{user_id}" if user_id else f"conversation:{conversation_id}"
