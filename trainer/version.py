"""Reading a dataset version: its manifest and its conversations."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from trainer.config import ConfigError
from trainer.dialogues import Message

FORMAT = "talkmill.version/1"
BATCH_ROWS = 1_000


@dataclass(frozen=True)
class Conversation:
    """A kept row of a version: a conversation, or a window of one."""

    id: str
    conversation_id: str
    group: str
    """Who must not be split between training and validation: the user, else the conversation itself."""
    messages: list[Message]


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
        """All kept rows, in order; memory is bounded by a batch."""
        for segment in self.manifest["segments"]:
            with pq.ParquetFile(self.folder / segment["path"]) as file:
                columns = ["id", "conversation_id", "messages", "user"]
                for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                    yield from map(_conversation, batch.to_pylist())


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


def _conversation(row: dict[str, Any]) -> Conversation:
    user_id = (row["user"] or {}).get("id")
    group = f"user:{user_id}" if user_id else f"conversation:{row['conversation_id']}"
    return Conversation(row["id"], row["conversation_id"], group, row["messages"])
