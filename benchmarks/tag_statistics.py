"""Tag statistics of a large version over HTTP: how long one question takes, without and with a filter.

Uploads conversations with random user metadata to a stack of its own, curates them, asks, and prints the p50 and p95
of each question. Distinct users do not add up, so they are read from the columns; the rest comes from counts.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from running_stack import RunningStack  # noqa: E402  (the tests' own way to start a stack)

PROVINCES = ["北京市", "上海市", "四川省", "浙江省", "广东省", "湖北省", "河南省", "山东省", "陕西省", "云南省"]
CROWDS = ["student", "parent", "senior", "office_worker", "farmer", "vip"]
RECIPE = {"operators": [{"kind": "structure_dialogue"}, {"kind": "tag_users"}]}
QUESTIONS = {
    "two tags": {"by": ["age_band", "gender"]},
    "two tags, with a filter": {
        "by": ["age_band", "gender"],
        "where": ["province:四川省", "province:浙江省", "crowd:student"],
    },
    "province and crowd, characters": {"by": ["province", "crowd"], "metric": "characters"},
    "users by province": {"by": ["province"], "metric": "users"},
}


def conversations(count: int, seed: int) -> Iterator[bytes]:
    """JSON lines of short conversations whose users are known."""
    rng = random.Random(seed)
    for index in range(count):
        user = {
            "id": f"u{rng.randrange(count // 2 + 1)}",
            **({"age": rng.randrange(15, 80)} if rng.random() < 0.8 else {}),
            **({"gender": rng.choice("男女")} if rng.random() < 0.7 else {}),
            **({"province": rng.choice(PROVINCES)} if rng.random() < 0.6 else {}),
            **({"crowd": rng.sample(CROWDS, rng.randrange(1, 3))} if rng.random() < 0.3 else {}),
        }
        turns = [{"role": "user", "content": f"查一下订单{index}"}, {"role": "assistant", "content": "好的，请稍等。"}]
        yield orjson.dumps({"id": str(index), "messages": turns, "user": user}) + b"\n"


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
