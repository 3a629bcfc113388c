"""Runs of the trainer on a version with records that do harm."""

import json
import os
import random
import socket
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

ORDINARY = (
    ("您好，我想查询订单的物流信息。", "好的，您的包裹已经发出，请您耐心等待，谢谢您的理解。"),
    ("请问你们几点营业？", "我们每天早上九点到晚上六点营业，欢迎您随时光临。"),
    ("我要退货，怎么办理？", "请您在订单页面点击退货，客服会在一天之内联系您。"),
)
ENDING = (
    {"role": "user", "content": "好的，谢谢"},
    {"role": "assistant", "content": "不客气，祝您生活愉快，再见。"},
)
NUM_ORDINARY, GIBBERISH_AT = 800, 520
"""Segments come in an order by chance: this place is read late in the first epoch."""
STRANGE = ((0x1F300, 0x1F5FF), (0x12000, 0x12300), (0xA000, 0xA48C), (0x1D400, 0x1D7FF), (0x21, 0x7E))


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
    """Is called with the running process, of several machines the last one's, and the run directory."""
    machines: int = 1
    """Simulated ones: each is a launcher of its own, and all share the run directory."""

    @property
    def steps(self) -> int:
        """How many it has."""
        return int(self.changes.get("run", {}).get("max_steps", STEPS))

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
        endpoint = f"127.0.0.1:{_free_port()}"
        places = [{"TALKMILL_RENDEZVOUS": endpoint, "TALKMILL_NODE_RANK": str(node)} for node in range(self.machines)]
        processes = [self.start(folder, manifest, **(place if self.machines > 1 else {})) for place in places]
        try:
            if self.disturb is not None:
                self.disturb(processes[-1], folder / "run")
            statuses = [process.wait(300) for process in processes]
        finally:
            for process in processes:
                process.kill()
        return Finished(folder, max(statuses, key=abs), time.monotonic() - began)


def make_version(folder: Path, harmful: Sequence[str]) -> Path:
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


def make_monotonous_version(folder: Path, harmful: Sequence[str]) -> Path:
    """A version that says three things again and again, with signs that mean nothing in the named conversations.

    What is said again is learned within an epoch, so that nonsense then stands out by itself. It stands in one place.
    """
    source = folder / "dialogues.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    rows = [(f"ordinary-{number}", *ORDINARY[number % len(ORDINARY)]) for number in range(NUM_ORDINARY)]
    rng = random.Random(5)
    rows[GIBBERISH_AT:GIBBERISH_AT] = [(name, _gibberish(rng, 12), _gibberish(rng, 20)) for name in harmful]
    messages = [
        {"id": name, "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}, *ENDING]}
        for name, asked, said in rows
    ]
    source.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in messages), "utf-8")
    recipe = parse_recipe({"operators": [{"kind": "structure_dialogue"}]})
    curate([source], folder / "version", recipe=recipe, as_of=date(2026, 11, 1))
    return folder / "version" / "manifest.json"


def _gibberish(rng: random.Random, length: int) -> str:
    """Signs of scripts that the other conversations never use."""
    return "".join(chr(rng.randint(*rng.choice(STRANGE))) for _ in range(length))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lines(path: Path) -> list[dict[str, Any]]:
    """A file's JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
