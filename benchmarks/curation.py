"""Measures `talkmill curate` as a whole command against the bars of the project; `make bench` runs it.

One thread a process, runs interleaved, medians. Prints a table and writes `results/curation.json`.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import peers
from dialogues import RUDE, SEED, conversations, texts, write
from measured import Case, machine, run_interleaved
from picture import draw

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "curation.json"
TALKMILL = [sys.executable, "-m", "app.cli"]
AS_OF = ["--as-of", "2026-11-01"]
NUM_WORDS = 10_000
FRESH = {"90": 0.93, "50": 0.52}
"""Share of fresh texts that leaves 90 and 50 % of the bytes in distinct texts, since some are made twice."""
JOB = "mask+smooth+classify"
PEERS = {
    f"{JOB} data-juicer": "Data-Juicer", f"{JOB} datatrove": "datatrove",
    f"{JOB} datatrove-automaton": "datatrove, with an automaton",
}  # fmt: skip
SLOW_SHARE = 10
"""datatrove's own word filter gets a tenth of the file, since it is slow and starts fast."""
MB = 1_000_000
LIBRARIES = ("talkmill", "polars", "pyarrow", "numpy", "orjson", "ahocorasick_rs", "fasttext-community")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures `talkmill curate`.")
    parser.add_argument("--mb", type=int, default=60, help="size of the files of most cases")
    parser.add_argument("--workers-mb", type=int, default=200, help="size of the file for one worker and two")
    parser.add_argument("--memory-mb", type=int, default=0, help="also run the default recipe on a file of this size")
    parser.add_argument("--without-peers", action="store_true", help="no Data-Juicer, no datatrove")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="only cases whose name holds this, and the limit")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wanted = [
            c for c in cases(Path(folder), options) if not options.only or options.only in c.name or c.name == "limit"
        ]
        run_interleaved(wanted, options.repeats, lambda line: print(line, file=sys.stderr))
    table = [row(case, next(c for c in wanted if c.name == "limit")) for case in wanted]
    show(table)
    found = {
        "machine": machine(LIBRARIES),
        **ratios(table),
        "options": {k: str(v) for k, v in vars(options).items() if k != "out"},
        "cases": table,
    }
    for name, ratio in ratios(table).items():
        print(f"{name:36}{ratio:8}")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", "utf-8")
    if "talkmill_over_data_juicer" in found:
        speeds = {
            PEERS.get(str(line["name"]), "Talkmill"): float(str(line["mb_per_cpu_s"]))
            for line in table
            if line["name"] in (JOB, *PEERS)
        }
        draw(options.out.with_suffix(".svg"), "10,000 words + smoothing + fastText, MB per CPU second", speeds)
    return 0


def cases(folder: Path, options: argparse.Namespace) -> list[Case]:
    """All commands, with their inputs made."""
    sizes = {"90": options.mb, "50": options.mb, "large": options.workers_mb, "huge": options.memory_mb}
    files = {name: folder / f"{name}.jsonl" for name, size in sizes.items() if size}
    for name, path in files.items():
        write(path, sizes[name] * MB, distinct=FRESH.get(name, FRESH["90"]))
    one = folder / "one.jsonl"
    one.write_bytes(next(conversations(random.Random(SEED), distinct=1.0)))
    mask = {"kind": "match_sensitive_words", "words": words()}
    smooth, classify = (
        {"kind": "smooth_disfluency"},
        {"kind": "classify_text", "classifier": str(classifier(folder)), "labels": ["rude"], "action": "flag"},
    )
    recipes = {"mask+smooth": [mask, smooth], JOB: [mask, smooth, classify]}
    for name, operators in recipes.items():
        (folder / f"{name}.json").write_text(json.dumps({"operators": operators}), "utf-8")
    made = [
        Case("limit", [sys.executable, FOLDER / "limit.py", files["90"], folder / "limit.parquet"], _size(files["90"])),
        *(_curate(folder, name, files["90"], "--recipe", folder / f"{name}.json") for name in recipes),
        _curate(folder, "default, 90 % distinct", files["90"]),
        _curate(folder, "default, 50 % distinct", files["50"]),
        _curate(folder, "one conversation", one),
        _curate(folder, "default, 1 worker", files["large"]),
        _curate(folder, "default, 2 workers", files["large"], "--workers", "2"),
    ]
    if not options.without_peers:
        made += peer_cases(folder, files["90"])
    return made + [_curate(folder, "default, huge file", path) for name, path in files.items() if name == "huge"]


def peer_cases(folder: Path, source: Path) -> list[Case]:
    """The job of JOB by others' tools."""
    less = folder / "less.jsonl"
    write(less, source.stat().st_size // SLOW_SHARE, distinct=FRESH["90"])
    model = peers.train_model(folder / "labels.jsonl", folder / "fasttext.bin")
    juicer, trove, trove_automaton = PEERS
    return [
        peers.data_juicer(juicer, folder, source, words(), model),
        peers.datatrove(trove, folder, less, words(), model, automaton=False),
        peers.datatrove(trove_automaton, folder, source, words(), model, automaton=True),
    ]


def ratios(table: list[dict[str, object]]) -> dict[str, float]:
    """How many times as fast as each other tool the job is, by CPU seconds."""
    speeds = {str(line["name"]): float(str(line["mb_per_cpu_s"])) for line in table}
    if JOB not in speeds:
        return {}
    others = {"limit": "limit"} | {case: case.removeprefix(f"{JOB} ").replace("-", "_") for case in PEERS}
    return {
        f"talkmill_over_{name}": round(speeds[JOB] / speeds[case], 3) for case, name in others.items() if case in speeds
    }


def words() -> list[str]:
    """A lexicon: words that nobody says, and a few that are said."""
    rng = random.Random(SEED)
    made: set[str] = {word[-3:] for word in RUDE}
    while len(made) < NUM_WORDS:
        made.add("".join(chr(rng.randint(0x4E00, 0x8000)) for _ in range(rng.randint(2, 5))))
    return sorted(made)


def classifier(folder: Path) -> Path:
    """A classifier of rude texts, trained as a user would."""
    rng, labels, target = random.Random(SEED), folder / "labels.jsonl", folder / "classifier"
    with labels.open("w", encoding="utf-8") as file:
        for number in range(4_000):
            rude = number % 10 == 0
            text = (rng.choice(RUDE) + "，" if rude else "") + texts(rng, "user")
            file.write(json.dumps({"text": text, "label": "rude" if rude else "fine"}, ensure_ascii=False) + "\n")
    subprocess.run([*TALKMILL, "classifier", "train", labels, "--out", target], check=True, capture_output=True)
    return target


def row(case: Case, limit: Case) -> dict[str, object]:
    """A case's figures."""
    run = case.median
    per_s = case.num_bytes / MB / run.cpu_s
    return {
        "name": case.name,
        "mb": round(case.num_bytes / MB, 1),
        "wall_s": round(run.wall_s, 2),
        "cpu_s": round(run.cpu_s, 2),
        "mb_per_wall_s": round(case.num_bytes / MB / run.wall_s, 2),
        "mb_per_cpu_s": round(per_s, 2),
        "of_limit_wall": round(case.num_bytes / run.wall_s / (limit.num_bytes / limit.median.wall_s), 3),
        "of_limit_cpu": round(per_s / (limit.num_bytes / MB / limit.median.cpu_s), 3),
        "peak_mb": round(run.peak_bytes / MB),
    }


def show(table: list[dict[str, object]]) -> None:
    """The table, for people."""
    names = [name for name in table[0] if name != "name"]
    print(f"{'':24}" + "".join(f"{name:>15}" for name in names))
    for line in table:
        print(f"{line['name']!s:24}" + "".join(f"{line[name]!s:>15}" for name in names))


def _curate(folder: Path, name: str, source: Path, *arguments: str | Path) -> Case:
    out = folder / "out"
    command = [*TALKMILL, "curate", source, "--out", out, *AS_OF, *arguments]
    return Case(name, command, _size(source), lambda: shutil.rmtree(out, ignore_errors=True))


def _size(path: Path) -> int:
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
