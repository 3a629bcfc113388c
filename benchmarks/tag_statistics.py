"""Tag statistics of a large version over HTTP: how long one question takes, without and with a filter.

Uploads conversations with random user metadata to a stack of its own, curates them, asks, and prints the p50 and p95
of each question. Distinct users do not add up, so they are read from the columns; the rest comes from counts.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.tag_questions import QUESTIONS, RECIPE, conversations

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from running_stack import RunningStack  # noqa: E402  (the tests' own way to start a stack)


def measure(http: httpx.Client, path: str, question: dict[str, object], times: int) -> tuple[float, float]:
    """(p50, p95) in milliseconds; the first answer, which loads the counts, is not counted."""
    http.get(path, params=question).raise_for_status()  # type: ignore[arg-type]
    took = []
    for _ in range(times):
        started = time.perf_counter()
        http.get(path, params=question).raise_for_status()  # type: ignore[arg-type]
        took.append((time.perf_counter() - started) * 1000)
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.95)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=100)
    options = parser.parse_args()
    console = Console(width=100)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "conversations.jsonl"
        with source.open("wb") as file:
            file.writelines(conversations(options.conversations, seed=7))
        stack = RunningStack(Path(folder) / "stack", workers=2)
        try:
            with console.status("uploading and curating"):
                with source.open("rb") as file:
                    form = {"purpose": "conversations"}
                    sent = stack.http.post("/files", files={"file": ("c.jsonl", file)}, data=form, timeout=600).json()
                stack.ended(f"/files/{sent['id']}", 1800)
                dataset = stack.http.post("/datasets", json={"name": "bench"}).json()
                body = {"files": [sent["id"]], "recipe": RECIPE}
                version = stack.http.post(f"/datasets/{dataset['id']}/versions", json=body).json()
                version = stack.ended(f"/versions/{version['id']}", 1800)
            assert version["counts"]["conversations_kept"] == options.conversations, version["error"]
            path = f"/versions/{version['id']}/tags/statistics"
            table = Table("question", "p50 ms", "p95 ms", title=f"{options.conversations:,} conversations, over HTTP")
            figures = {}
            for name, question in QUESTIONS.items():
                p50, p95 = measure(stack.http, path, question, options.times if "users" not in name else 10)
                figures[name] = {"p50_ms": round(p50, 1), "p95_ms": round(p95, 1)}
                table.add_row(name, f"{p50:.1f}", f"{p95:.1f}")
            console.print(table)
        finally:
            stack.stop()
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "statistics.json").write_text(
        json.dumps({"conversations": options.conversations, "questions": figures}, indent=2) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
