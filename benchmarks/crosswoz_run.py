"""`make train-crosswoz`: 200 steps from scratch on the curated CrossWOZ dialogues, and what they bring.

A model that learned nothing but how frequent tokens are would have the target tokens' unigram entropy as its loss, and
one that learned one answer would have the BLEU of the most frequent reply. The run is held to both: exit status 1 where
its validation loss is less than a fifth below the first.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from curation.command import curate
from curation.recipe import parse_recipe

ROOT = Path(__file__).parent.parent
SOURCE = ROOT.parent / "shared" / "data" / "dialog.crosswoz.val.jsonl"
RESULT = ROOT / "benchmarks" / "results" / "crosswoz_run.json"
LEAST_GAIN = 0.2
CONFIG = {
    "model": {"scratch": {"preset": "tiny", "vocab_size": 2048}},
    "data": {"max_source_length": 640, "max_target_length": 128, "validation_share": 0.2},
    "batch": {"tokens": 6144},
    "optim": {"peak_lr": 3e-3},
    "run": {"max_steps": 200, "nproc": 2, "seed": 7},
    "checkpoint": {"every_steps": 100},
    "evaluate": {"every_steps": 50, "max_new_tokens": 64},
}
"""A fifth of 500 conversations is what may be held out at most: 200 replies to score. Few entries of the tokenizer, since
there are 150,000 tokens of text: with 6,144 of them most are seen a handful of times."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder that keeps the version and the run")
    options = parser.parse_args()
    if not SOURCE.exists():
        print(f"{SOURCE.name} is not there: see benchmarks/README.md", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        found = run(folder)
    show(found)
    RESULT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0 if found["gain_over_unigram"] >= LEAST_GAIN else 1


def run(folder: Path) -> dict[str, object]:
    """Curates, trains, and reads what the run found."""
    curate([SOURCE], folder / "version", recipe=parse_recipe(None), as_of=date(2026, 11, 1))
    manifest = folder / "version" / "manifest.json"
    config = {**CONFIG, "data": {**CONFIG["data"], "version": str(manifest)}}
    (folder / "config.json").write_text(json.dumps(config))
    began = time.perf_counter()
    command = [sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run")]
    subprocess.run(command, check=True, cwd=ROOT)
    took = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads((folder / "run" / "result.json").read_text("utf-8"))
    last = result["evaluation"]
    return {
        "machine": _machine(),
        "digest": json.loads(manifest.read_text("utf-8"))["digest"],
        "config": CONFIG,
        "steps": result["steps"],
        "wall_s": round(took, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "gain_over_unigram": round(1 - last["validation_loss"] / last["unigram_entropy"], 4),
        **last,
    }


def show(found: dict[str, object]) -> None:
    """A table for people."""
    table = Table("figure", "value", title="CrossWOZ, from scratch")
    for name in ("steps", "wall_s", "cpu_s", "validation_loss", "unigram_entropy", "gain_over_unigram"):
        table.add_row(name, str(found[name]))
    for name in ("bleu", "bleu_interval", "bleu_most_frequent_reply", "chrf", "replies", "bleu_signature"):
        table.add_row(name, str(found[name]))
    Console().print(table)


def _machine() -> dict[str, object]:
    """Where and of what the figures are."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    versions = {name: version(name) for name in ("torch", "transformers", "sacrebleu")}
    return {"cores": os.cpu_count(), "load": os.getloadavg()[0], "versions": versions, "commit": commit.stdout.strip()}


if __name__ == "__main__":
    sys.exit(main())
