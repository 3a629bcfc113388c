"""Versions made for tests: conversations of random characters, so that two are alike only where a test wants it."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.config import TrainConfig, parse_config
from trainer.data.vectors import OpenSegment, Vectors
from trainer.data.version import DatasetVersion, open_version

CHARACTERS = [chr(code) for code in range(0x4E00, 0x5600)]
STRUCTURE = {"operators": [{"kind": "structure_dialogue"}]}


def talk(name: str, *, seed: object = None, turns: int = 2, **user: Any) -> dict[str, Any]:
    """A conversation of about 40 characters a turn; the same seed, by default the name, says the same."""
    rng = random.Random(str(name if seed is None else seed))
    said = ["".join(rng.choices(CHARACTERS, k=rng.randint(30, 50))) for _ in range(2 * turns)]
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    return {"id": name, "messages": messages, **({"user": user} if user else {})}


def nearly(conversation: dict[str, Any], name: str) -> dict[str, Any]:
    """The same conversation with one character in 30 another one, under another name."""
    rng = random.Random(name)
    messages = [
        {
            **message,
            "content": "".join(rng.choice(CHARACTERS) if rng.random() < 1 / 30 else c for c in message["content"]),
        }
        for message in conversation["messages"]
    ]
    return {**conversation, "id": name, "messages": messages}


def make_version(
    folder: Path, lines: Iterable[dict[str, Any]], recipe: object = None, **options: Any
) -> DatasetVersion:
    """Curates conversations, only their structure where no recipe is given."""
    folder.mkdir(parents=True)
    source = folder / "made.jsonl"
    source.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    curate([source], folder / "version", recipe=parse_recipe(recipe or STRUCTURE), **options)
    return open_version(str(folder / "version" / "manifest.json"))


def settings(version: DatasetVersion, cache: Path, *, seed: int = 0, **data: Any) -> TrainConfig:
    """A run's settings with short rows."""
    manifest = str(version.folder / "manifest.json")
    defaults = {"version": manifest, "cache_dir": str(cache), "max_source_length": 600, "max_target_length": 200}
    body = {"model": {"scratch": {"preset": "tiny"}}, "data": {**defaults, **data}, "run": {"seed": seed}}
    return parse_config(body)


def conversations(vectors: Vectors, split: str = "train", source: int | None = None) -> list[str]:
    """Names of the conversations in a split, a name for each of its samples."""
    return [
        conversation
        for segment in getattr(vectors, split)
        if source in (None, segment.source)
        for rows in [OpenSegment(vectors, segment)]
        for place in range(len(rows))
        for _, conversation in rows.names(place)
    ]
