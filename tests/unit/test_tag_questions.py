"""The benchmark beside DuckDB: that it runs, and that both give the same answers, which it checks itself."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_engines_answer_alike(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    sizes = ["--conversations", "400", "--repeats", "1", "--times", "1", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "benchmarks.tag_questions", *sizes], cwd=ROOT, check=True)
    found = json.loads(out.read_text("utf-8"))
    assert found["talkmill_over_duckdb"] > 0
    assert all(ms > 0 for took in found["questions_cpu_ms"].values() for ms in took.values())
