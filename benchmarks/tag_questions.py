"""Tag statistics of 1,000,000 conversations beside DuckDB on the same Parquet; `make bench` runs it.

Each engine answers every question in a process of its own, on one thread, engines in turns; what counts is the median of
the CPU seconds. Talkmill answers as its API does, from the counts that a closed version carries; `scan` is the same
function without these counts. All answers must be equal. Prints a table and writes `results/tag_questions.json`.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.measured import machine, measure

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "tag_questions.json"
LIBRARIES = ("talkmill", "polars", "pyarrow", "duckdb")
ENGINES = ("talkmill", "scan", "duckdb")
CHILD = [sys.executable, "-m", "benchmarks.tag_questions"]
BAR = 2.0
RECIPE = {"operators": [{"kind": "structure_dialogue"}, {"kind": "tag_users"}]}
PROVINCES = ["北京市", "上海市", "四川省", "浙江省", "广东省", "湖北省", "河南省", "山东省", "陕西省", "云南省"]
CROWDS = ["student", "parent", "senior", "office_worker", "farmer", "vip"]
QUESTIONS: dict[str, dict[str, Any]] = {
    "two tags": {"by": ["age_band", "gender"]},
    "two tags, with a filter": {
        "by": ["age_band", "gender"],
        "where": ["province:四川省", "province:浙江省", "crowd:student"],
    },
    "province and crowd, characters": {"by": ["province", "crowd"], "metric": "characters"},
    "crowd, characters, with a filter": {"by": ["crowd"], "where": ["gender:female"], "metric": "characters"},
    "users by province": {"by": ["province"], "metric": "users"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Tag statistics beside DuckDB.")
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3, help="processes of each engine")
    parser.add_argument("--times", type=int, default=10, help="how often a process asks each question")
    parser.add_argument("--version", type=Path, help="a folder that `talkmill curate` made of such conversations")
    parser.add_argument("--answer", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.answer:
        print(json.dumps(answered(options.answer, options.version, options.times)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        version = options.version or make_version(Path(folder), options.conversations)
        found = compare(version, options.repeats, options.times)
    show(found)
    body = {"machine": machine(LIBRARIES), "conversations": options.conversations, "bar": BAR, **found}
    options.out.write_text(json.dumps(body, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


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


def make_version(folder: Path, count: int) -> Path:
    """The conversations curated; the version's folder."""
    source, recipe, version = folder / "made.jsonl", folder / "recipe.json", folder / "version"
    with source.open("wb") as file:
        file.writelines(conversations(count, seed=7))
    recipe.write_text(json.dumps(RECIPE))
    command = [sys.executable, "-m", "app.cli", "curate", source, "--out", version, "--recipe", recipe]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return version


def compare(version: Path, repeats: int, times: int) -> dict[str, Any]:
    """The figures: of each question and engine milliseconds of CPU, of each engine its peak memory.

    Raises:
        ValueError: two engines answer differently.
    """
    told: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    peaks = dict.fromkeys(ENGINES, 0)
    for _ in range(repeats):
        for engine in ENGINES:
            command = [*CHILD, "--answer", engine, "--version", version.absolute(), "--times", str(times)]
            run = measure(command)
            told[engine].append(json.loads(run.said))
            peaks[engine] = max(peaks[engine], run.peak_bytes)
    questions = {}
    for name in QUESTIONS:
        if len({json.dumps(of[name]["rows"]) for runs in told.values() for of in runs}) != 1:
            raise ValueError(f"{name}: the engines' answers differ")
        questions[name] = {engine: median(of[name]["cpu_ms"] for of in runs) for engine, runs in told.items()}
    filtered = [took for name, took in questions.items() if "where" in QUESTIONS[name]]
    return {
        "questions_cpu_ms": {
            name: {engine: round(ms, 2) for engine, ms in took.items()} for name, took in questions.items()
        },
        "count_once_cpu_s": round(median(of["prepared_cpu_s"] for of in told["talkmill"]), 2),
        "peak_mb": {engine: round(peak / 1e6) for engine, peak in peaks.items()},
        "talkmill_over_duckdb": round(min(took["duckdb"] / took["talkmill"] for took in filtered), 2),
        "scan_over_duckdb": round(min(took["duckdb"] / took["scan"] for took in filtered), 2),
    }


def answered(engine: str, version: Path, times: int) -> dict[str, Any]:
    """What a child tells: of each question its rows and the median of its CPU time, the first answer not counted."""
    segments = sorted((version / "segments").glob("*.parquet"))
    began = time.process_time()
    ask = duckdb_engine(segments) if engine == "duckdb" else talkmill_engine(segments, counted=engine == "talkmill")
    found: dict[str, Any] = {"prepared_cpu_s": time.process_time() - began}
    for name, question in QUESTIONS.items():
        rows = ask(question)
        took = []
        for _ in range(times):
            began = time.process_time()
            ask(question)
            took.append((time.process_time() - began) * 1000)
        found[name] = {"cpu_ms": median(took), "rows": sorted(rows)}
    return found


def talkmill_engine(segments: Sequence[Path], *, counted: bool) -> Callable[[dict[str, Any]], list[tuple[Any, ...]]]:
    """Answers as the API does, from the counts that a version gets when it closes, or from its Parquet."""
    from curation.statistics import count_tags, tag_statistics

    counts = count_tags(segments) if counted else None

    def ask(question: dict[str, Any]) -> list[tuple[Any, ...]]:
        where = [(field, value) for field, _, value in (c.partition(":") for c in question.get("where", ()))]
        metric = question.get("metric", "conversations")
        answer = tag_statistics(segments, by=question["by"], where=where, metric=metric, counts=counts)
        return [(*(row[field] for field in question["by"]), row["value"]) for row in answer["rows"]]

    return ask


def duckdb_engine(segments: Sequence[Path]) -> Callable[[dict[str, Any]], list[tuple[Any, ...]]]:
    """Answers by SQL over the Parquet, opened once."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    files = [str(path) for path in segments]
    return lambda question: connection.execute(sql(question), [files]).fetchall()


def sql(question: dict[str, Any]) -> str:
    """A question of QUESTIONS in SQL; all its metadata is known from one source, so a user's latest value counts."""
    columns = {field: f"coalesce(\"user\".{field}, 'unknown')" for field in ("age_band", "gender", "province")}
    columns["crowd"] = 'unnest(CASE WHEN len("user".crowd) > 0 THEN "user".crowd ELSE [\'unknown\'] END)'
    by, metric = question["by"], question.get("metric", "conversations")
    wanted: dict[str, list[str]] = {}
    for condition in question.get("where", ()):
        field, _, value = condition.partition(":")
        is_met = f"list_contains(\"user\".crowd, '{value}')" if field == "crowd" else f"{columns[field]} = '{value}'"
        wanted.setdefault(field, []).append(is_met)
    met = " AND ".join(['"window" <= 1', *(f"({' OR '.join(any_of)})" for any_of in wanted.values())])
    source = "read_parquet(?, file_row_number = true, filename = true)"
    if metric == "users":
        (field,) = by
        known = f'arg_max("user".{field}, (filename, file_row_number)) FILTER ("user".{field} IS NOT NULL)'
        users = f"SELECT coalesce({known}, 'unknown') AS tag FROM {source} WHERE {met} GROUP BY \"user\".id"
        return f"SELECT tag, count(*) FROM ({users}) GROUP BY tag"
    tags = ", ".join(f"{columns[field]} AS tag_{field}" for field in by)
    amount = {"conversations": "1", "characters": "characters"}[metric]
    names = ", ".join(f"tag_{field}" for field in by)
    rows = f"SELECT {tags}, {amount} AS amount FROM {source} WHERE {met}"
    return f"SELECT {names}, sum(amount)::BIGINT FROM ({rows}) GROUP BY {names}"


def show(found: dict[str, Any]) -> None:
    """The table, for people."""
    table = Table("ms of CPU", *ENGINES, title="tag statistics, one thread")
    for name, took in found["questions_cpu_ms"].items():
        table.add_row(name, *(f"{took[engine]:.1f}" for engine in ENGINES))
    table.add_row("peak MB", *(str(found["peak_mb"][engine]) for engine in ENGINES))
    Console().print(table)
    print(f"filtered, at least {found['talkmill_over_duckdb']} times as fast as DuckDB (bar {BAR})")


if __name__ == "__main__":
    sys.exit(main())
