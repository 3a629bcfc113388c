"""Runs of the trainer on a version with records that do harm."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from curation.command import curate
from curation.recipe import parse_recipe

INJECTED = Path(__file__).parent / "injected"
EXAMPLES = Path(__file__).parents[3] / "examples" / "dialogues.jsonl"
STEPS, NUM_EXAMPLES = 30, 80
CONFIG: dict[str, Any] = {
    "model": {"scratch": {"preset": "tiny", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 800}},
    "data": {"max_source_length": 160, "max_target_length": 64, "validation_share": 0, "segment_tokens": 4000},
    "batch": {"tokens": 1792},
    "run": {"max_steps": STEPS, "nproc": 2},
    "checkpoint": {"every_steps": 5, "keep": 10},
    "recovery": {"hang_after_s": 6},
    "evaluate": {"bleu_samples": 0},
}
"""About an epoch of 200 packed rows in some 8 segments; eight rows a step."""


@dataclass(frozen=True)
class Finished:
    """What a run left behind."""

    folder: Path
    status: int
    seconds: float

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return lines(self.folder / "run" / "metrics.jsonl")

    @property
    def recoveries(self) -> list[dict[str, Any]]:
        return lines(self.folder / "run" / "recovery.jsonl")

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "run" / "result.json").read_text())
        return found

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()[-3000:]

    @property
    def records_left_out(self) -> set[str]:
        return {record["conversation_id"] for entry in self.recoveries for record in entry["records"]}


@dataclass(frozen=True)
class Run:
    """A run to be: which markers do which harm, and other settings."""

    harms: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    disturb: Callable[["subprocess.Popen[bytes]", Path], None] | None = None
    """Is called with the running process and the run directory."""

    def start(self, folder: Path, manifest: Path, **environment: str) -> "subprocess.Popen[bytes]":
        """Starts it."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {part: {**CONFIG.get(part, {}), **self.changes.get(part, {})} for part in {*CONFIG, *self.changes}}
        config["data"] = {**config["data"], "version": str(manifest), "cache_dir": str(folder / "cache")}
        (folder / "config.json").write_text(json.dumps(config))
        path = os.pathsep.join([str(INJECTED), os.environ.get("PYTHONPATH", "")])
        harms = json.dumps(dict(self.harms))
        command = [sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run")]
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": path, "TALKMILL_HARM": harms, "OMP_NUM_THREADS": "1", **environment},
            )  # fmt: skip

    def finish(self, folder: Path, manifest: Path) -> Finished:
        """Runs it to its end."""
        began = time.monotonic()
        process = self.start(folder, manifest)
        try:
            if self.disturb is not None:
                self.disturb(process, folder / "run")
            status = process.wait(300)
        finally:
            process.kill()
        return Finished(folder, status, time.monotonic() - began)


def make_version(folder: Path, harmful: Sequence[str], *, seed: int = 0) -> Path:
    """A version of the examples and of a conversation for each marker; returns the manifest's path.

    The harmful conversations stand evenly among the others and are called after their markers.
    """
    source = folder / "dialogues.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    rows = EXAMPLES.read_text("utf-8").splitlines()[:NUM_EXAMPLES]
    for index, marker in enumerate(harmful):
        messages = [
            {"role": "user", "content": f"请问{marker}怎么办理"},
            {"role": "assistant", "content": f"您好，{marker}已经为您办理好了"},
        ]
        place = (index + 1) * len(rows) // (len(harmful) + 1)
        rows.insert(place, json.dumps({"id": marker, "messages": messages}, ensure_ascii=False))
    source.write_text("\n".join(rows), "utf-8")
    recipe = parse_recipe({"operators": [{"kind": "structure_dialogue"}]})
    curate([source], folder / "version", recipe=recipe, as_of=date(2026, 11, 1))
    return folder / "version" / "manifest.json"


def lines(path: Path) -> list[dict[str, Any]]:
    """A file's JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
