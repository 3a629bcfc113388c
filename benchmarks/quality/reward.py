"""A reward model from scratch on a few hundred preferences: as good as its pairs, which is what users should see."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from benchmarks.quality.figures import DATA, Figure

NAME = "pref.llamafactory_dpo_zh"
CONFIG = {
    "objective": "reward",
    "model": {"scratch": {"preset": "tiny"}},
    "data": {
        "preferences": str(DATA / f"{NAME}.jsonl"),
        "max_source_length": 128,
        "max_target_length": 256,
        "validation_share": 0.2,
    },
    "run": {"epochs": 3, "nproc": 1},
}


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as parent:
        config, run = Path(parent) / "config.json", Path(parent) / "run"
        config.write_text(json.dumps(CONFIG))
        began = _children_s()
        command = [sys.executable, "-m", "trainer", str(config), "--out", str(run)]
        subprocess.run(command, capture_output=True, check=True)
        yield Figure(f"{NAME}: training a reward model from scratch, CPU seconds", _children_s() - began)
        found = json.loads((run / "result.json").read_text("utf-8"))["evaluation"]
    low, high = found["accuracy_interval"]
    yield Figure(f"{NAME}: accuracy on {found['pairs']} pairs held out", found["accuracy"])
    yield Figure(f"{NAME}: lower end of its 95 % interval", low)
    yield Figure(f"{NAME}: upper end of its 95 % interval", high)
    yield Figure(f"{NAME}: the longer reply is the chosen one", found["longer_wins"])


def _children_s() -> float:
    """CPU seconds of the processes that have ended."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
