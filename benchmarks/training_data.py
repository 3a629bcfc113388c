"""Measures how a run's data is made and found again; `make bench-data` runs it.

Tokenising by one process and two, runs interleaved, by the clock; anonymous memory of tokenising and of a training
process for ten times the data; CPU seconds of a start from the cache beyond those of its imports. Prints a table and
writes `results/training_data.json`.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from dialogues import SEED, conversations
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "training_data.json"
SEGMENT_TOKENS = 500_000
STEPS = 12
BARS = {"one_over_two_processes": 1.8, "vectorising_growth": 1.1, "training_growth": 1.1, "start_beyond_imports_s": 2.0}
SCRATCH = {"preset": "tiny", "hidden_size": 64, "num_layers": 2, "num_heads": 4}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures a run's data.")
    parser.add_argument("--conversations", type=int, default=20_000, help="for speed and for starts")
    parser.add_argument("--few", type=int, default=3_000, help="for memory, beside ten times as many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "start", "memory"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "speed", "start"):
            made = make_version(folder / "speed", options.conversations)
            found |= speed(made, options.repeats) if options.only != "start" else {}
            found |= start(made, options.repeats) if options.only != "speed" else {}
        if options.only in (None, "memory"):
            found |= memory(make_version(folder / "few", options.few), make_version(folder / "many", 10 * options.few))
    show(found)
    if options.only is None:
        RESULTS.write_text(json.dumps({**found, "bars": BARS, "machine": _machine()}, indent=2) + "\n")
    return 0


def make_version(folder: Path, count: int) -> Path:
    """A dataset version of made dialogues; its folder."""
    folder.mkdir()
    with (folder / "made.jsonl").open("wb") as file:
        file.writelines(islice(conversations(random.Random(SEED), distinct=0.9), count))
    (folder / "recipe.json").write_text('{"operators": [{"kind": "structure_dialogue"}]}')
    command = [
        sys.executable, "-m", "app.cli", "curate", folder / "made.jsonl", "--out", folder / "version",
        "--recipe", folder / "recipe.json",
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    return folder / "version"


def speed(made: Path, repeats: int) -> dict[str, Any]:
    """Tokenising anew, by one process and by two."""
    took: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for processes, seconds in took.items():
            shutil.rmtree(made / "vectors", ignore_errors=True)
            child("tokenizer", made)
            until_then = child("tokenizer", made).wall_s  # imports, and the tokenizer from the cache
            seconds.append(child("vectorise", made, processes).wall_s - until_then)
    one, two = (sorted(seconds)[len(seconds) // 2] for seconds in took.values())
    return {"one_process_s": one, "two_processes_s": two, "one_over_two_processes": one / two}


def start(made: Path, repeats: int) -> dict[str, Any]:
    """A start from the cache, and its imports alone."""
    child("start", made)
    took = {action: [child(action, made).cpu_s for _ in range(repeats)] for action in ("start", "imports")}
    whole, imports = (sorted(seconds)[len(seconds) // 2] for seconds in took.values())
    return {"start_cpu_s": whole, "imports_cpu_s": imports, "start_beyond_imports_s": whole - imports}


def memory(few: Path, many: Path) -> dict[str, Any]:
    """Anonymous memory for ten times the data, of tokenising and of a training process.

    The tokenizer of a model from scratch is trained before; its memory grows up to a bound.
    """
    found: dict[str, Any] = {}
    for name, made in (("few", few), ("many", many)):
        found[f"tokenizer_{name}_mb"] = child("tokenizer", made).peak_mb
        found[f"vectorising_{name}_mb"] = child("vectorise", made).peak_mb
        command = [sys.executable, "-m", "trainer", config_of(made), "--out", made / "run", "--nproc", 1]
        found[f"training_{name}_mb"] = watch(command, lambda process: "trainer.rank" in process.cmdline()).peak_mb
    for kind in ("vectorising", "training"):
        found[f"{kind}_growth"] = found[f"{kind}_many_mb"] / found[f"{kind}_few_mb"]
    return found


@dataclass(frozen=True)
class Watched:
    """What a command took."""

    wall_s: float
    cpu_s: float
    """Of all its processes."""
    peak_mb: float
    """Anonymous memory of the largest of the processes that are meant."""


def child(action: str, made: Path, processes: int = 1) -> Watched:
    """Does one thing in a process of its own, and tells what that took."""
    # No script, which the processes that tokenise would load too: those of a run do not.
    code = f"import training_data; training_data.act({action!r}, {str(config_of(made))!r}, {processes})"
    return watch([sys.executable, "-c", code])


def watch(command: Sequence[object], is_meant: Callable[[psutil.Process], bool] = lambda _: True) -> Watched:
    """Runs a command.

    Raises:
        RuntimeError: it failed.
    """
    began, before, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)])}
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(list(map(str, command)), cwd=ROOT, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            with suppress(psutil.Error, OSError):  # it has ended meanwhile
                own = [one for one in (process, *process.children(recursive=True)) if is_meant(one)]
                peak = max([peak, *(_anonymous_bytes(one.pid) for one in own)])
            time.sleep(0.05)
        if process.returncode != 0:
            log.seek(0)
            raise RuntimeError(f"{command}: {log.read().decode()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Watched(time.perf_counter() - began, cpu_s, peak / 1e6)


def _anonymous_bytes(pid: int) -> int:
    words = Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")[2].split()
    return int(words[0]) * 1024 if words else 0  # a process that has ended has none


def config_of(made: Path) -> Path:
    """The settings of a short run on a version."""
    path = made / "train.json"
    data = {"version": str(made), "segment_tokens": SEGMENT_TOKENS, "max_source_length": 700}
    body = {
        "model": {"scratch": SCRATCH}, "data": data, "run": {"max_steps": STEPS}, "batch": {"tokens": 4_096},
        "checkpoint": {"every_steps": STEPS}, "evaluate": {"bleu_samples": 0},
    }  # fmt: skip
    path.write_text(json.dumps(body))
    return path


def act(action: str, config_path: str, processes: int) -> None:
    """What a child does."""
    from trainer.config import load_config
    from trainer.data.batches import batches
    from trainer.data.vectorising import vectorise
    from trainer.data.vectors import hand_over, take_over
    from trainer.data.version import open_version
    from trainer.launcher import open_tokenizer

    if action == "imports":
        return
    config = load_config(Path(config_path))
    version = open_version(config.data.version)
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name)
        chat = open_tokenizer(config, version, run_dir / "tokenizer")
        if action == "tokenizer":
            return
        hand_over(vectorise(version, chat, config, processes=processes), run_dir)
        rows = {"micro_rows": 2, "capacity": config.row_tokens, "seed": 0, "start": 0, "rank": 0, "world": 1}
        next(batches(take_over(run_dir), rows_of_steps=[4], **rows))


def _machine() -> dict[str, object]:
    """Where and of what the figures are."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    versions = {name: version(name) for name in ("torch", "pyarrow", "tokenizers", "numpy")}
    return {"cores": os.cpu_count(), "load": os.getloadavg()[0], "versions": versions, "commit": commit.stdout.strip()}


def show(found: dict[str, Any]) -> None:
    """A table of the figures, and of the bars where there are any."""
    table = Table("figure", "measured", "bar")
    for name, value in found.items():
        table.add_row(name, f"{value:.2f}", str(BARS.get(name, "")))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
