"""What every fault meets: files, labels, a recipe of every operator; and what they give when nothing disturbs."""

import gzip
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from curation.classifier import ClassifierRef
from curation.classifier_training import train_classifier
from curation.command import curate
from curation.recipe import parse_recipe

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SEGMENT_BYTES = 32_768
RUDE = ("滚开", "你真蠢", "去死吧", "shut up")
FINE = ("谢谢", "请问几点开门", "好的", "thank you")
HYPERPARAMETERS = {"bucket": 5_000}
TRAINER: dict[str, Any] = {
    "model": {"scratch": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 800}},
    "data": {"max_source_length": 160, "max_target_length": 64},
    "batch": {"tokens": 1792},
    "run": {"max_steps": 12, "nproc": 2},
    "checkpoint": {"every_steps": 3},
    "evaluate": {"bleu_samples": 0},
}


@dataclass(frozen=True)
class Expected:
    """What a version of the files is when nothing disturbs its making."""

    manifest: dict[str, Any]
    files: list[dict[str, Any]]
    """Of each file: conversations, turns, quarantined."""


class Scenario:
    """Three files, the last one another each round, so that no round finds its upload stored already."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="talkmill-chaos-")
        self._artefact = Path(self._folder.name) / "rude"
        self.classifier_digest: str = train_classifier(self._labelled, self._artefact, hyperparameters=HYPERPARAMETERS)[
            "digest"
        ]

    def close(self) -> None:
        """Deletes what it wrote."""
        self._folder.cleanup()

    @property
    def _labelled(self) -> list[tuple[str, str]]:
        words = [(word, "1") for word in RUDE] + [(word, "0") for word in FINE]
        return [(f"{word}，{n}号", label) for word, label in words for n in range(30)]

    @property
    def labels(self) -> bytes:
        """Labelled texts as JSONL."""
        return "\n".join(json.dumps({"text": text, "label": label}) for text, label in self._labelled).encode()

    @cached_property
    def _large(self) -> list[tuple[str, bytes]]:
        lines = (EXAMPLES / "dialogues.jsonl").read_bytes().splitlines(keepends=True)
        again = [*lines[250:], lines[0]]  # an id that the first file has too
        return [("calls.jsonl", b"".join(lines[:250])), ("more.jsonl.gz", gzip.compress(b"".join(again), mtime=0))]

    def files(self, number: int) -> list[tuple[str, bytes]]:
        """Names and contents of the files of a round."""
        turns = [{"role": "user", "content": f"嗯嗯，第{number}次"}, {"role": "assistant", "content": "好的好的"}]
        own = json.dumps({"id": f"round-{number}", "messages": turns}).encode() + b"\n"
        return [*self._large, (f"round-{number}.jsonl", own + (EXAMPLES / "broken.jsonl").read_bytes())]

    @staticmethod
    def num_records(content: bytes) -> int:
        """The records of a file, good and bad."""
        text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        return sum(1 for line in text.split(b"\n") if line.strip())

    @staticmethod
    def recipe(classifier: str, number: int) -> dict[str, Any]:
        """A recipe of every operator, another one each round, so that no segment was curated by it before."""
        steps: list[dict[str, Any]] = json.loads((EXAMPLES / "recipe.json").read_text("utf-8"))["operators"]
        next(step for step in steps if "words" in step)["words"].append(f"第{number}轮")
        steps.insert(1, {"kind": "normalize_text"})
        steps.insert(-1, {"kind": "classify_text", "classifier": classifier, "labels": ["1"], "action": "no_learn"})
        steps.insert(-1, {"kind": "deduplicate"})
        return {"operators": steps}

    def expected(self, number: int, as_of: str) -> Expected:
        """The version of a round's files, made here, without a service."""
        with tempfile.TemporaryDirectory(dir=self._folder.name) as name:
            folder = Path(name)
            paths = []
            for filename, content in self.files(number):
                (folder / filename).write_bytes(content)
                paths.append(folder / filename)
            filters = {"clf-here": ClassifierRef.at(self._artefact)}
            recipe = parse_recipe(self.recipe("clf-here", number), filters=filters)
            out = folder / "version"
            manifest = curate(paths, out, recipe=recipe, as_of=date.fromisoformat(as_of), segment_bytes=SEGMENT_BYTES)
            return Expected(manifest, json.loads((out / "report.json").read_bytes())["files"])


def adds_up(counts: dict[str, Any]) -> bool:
    """Whether every conversation is either kept or dropped, and every operator's doings have a code."""
    by_operator = counts["by_operator"].values()
    dropped = sum(one["dropped_conversations"] for one in by_operator)
    whole: bool = counts["conversations_in"] == counts["conversations_kept"] + counts["conversations_dropped"]
    return whole and dropped == counts["conversations_dropped"]


def repeated(values: list[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted(value for value, times in Counter(values).items() if times > 1)
