"""A reward model of a folder on this machine, for curation on the command line."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.filters.scorer import BATCH, canonical
from app.training.chat import generators
from curation.errors import CurationError
from curation.segments import file_sha256


@dataclass(frozen=True)
class FolderScorer:
    """A reward model of a folder on this machine; nothing is kept."""

    digest: str
    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "FolderScorer":
        """That of a run directory or of its model folder.

        Raises:
            CurationError: there is none.
        """
        model = folder / "model" if (folder / "model").is_dir() else folder
        files = sorted(path for path in model.glob("*") if path.is_file())
        if not (model / "config.json").exists():
            raise CurationError(f"{folder} holds no reward model")
        parts = [f"{path.name}:{file_sha256(path)}" for path in files]
        return cls(f"sha256:{hashlib.sha256(' '.join(parts).encode()).hexdigest()}", model)

    def scores(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float | None]:
        """Of each conversation, given by its messages; None where there is no reply to score."""
        contents = [canonical(messages) for messages in conversations]
        distinct = list(dict.fromkeys(contents))
        known: dict[bytes, float | None] = {}
        for start in range(0, len(distinct), BATCH):
            part = distinct[start : start + BATCH]
            asked = [{"messages": orjson.loads(content)} for content in part]
            known.update(zip(part, generators().score(self.folder, asked), strict=True))
        return [known[content] for content in contents]
