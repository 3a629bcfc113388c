"""`talkmill curate`, `talkmill classifier` and `talkmill smoother` as users run them: outputs, refusals in one line, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import psutil
import pytest
from click.testing import CliRunner, Result

from app.cli import main

RUDE = ["滚开", "你真蠢", "去死吧", "shut up"]
FINE = ["谢谢", "请问几点开门", "好的", "thank you"]


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _labels(folder: Path) -> Path:
    path = folder / "labels.jsonl"
    rows = [
        {"text": f"{word}，{n}号", "label": label}
        for label, words in ((1, RUDE), (0, FINE))
        for word in words
        for n in range(40)
    ]
    path.write_text("\n".join(json.dumps(row) for row in [*rows, {"text": "无标签"}]), "utf-8")
    return path


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    path = tmp_path / "talk.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": "谢谢，3号"}, {"role": "assistant", "content": "好的，4号"}]},
        {"messages": [{"role": "user", "content": "滚开，3号"}, {"role": "assistant", "content": "好的"}]},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return path


def test_a_classifier_is_trained_evaluated_and_used_by_a_recipe(tmp_path: Path, talk: Path) -> None:
    labels, made = _labels(tmp_path), tmp_path / "rude"
    trained = _run("classifier", "train", labels, "--out", made, "--bucket", 5000, "--holdout", 0.2)
    assert trained.exit_code == 0, trained.output
    assert trained.stdout == ""
    assert "macro-F1" in trained.stderr
    assert "1 quarantined" in trained.stderr
    measured = _run("classifier", "evaluate", made, labels)
    assert measured.stderr == ""
    assert json.loads(measured.stdout)["accuracy"] > 0.95
    recipe = tmp_path / "recipe.json"
    recipe.write_text(
        json.dumps({"operators": [{"kind": "classify_text", "classifier": str(made), "action": "drop_conversation"}]})
    )
    curated = _run("curate", talk, "--out", tmp_path / "out", "--recipe", recipe)
    assert "2 conversations in, 1 kept, 1 dropped" in curated.stderr
    recipe.write_text(
        json.dumps({"operators": [{"kind": "classify_text", "classifier": str(tmp_path), "labels": ["1"]}]})
    )
    assert "holds no classifier" in _run("curate", talk, "--out", tmp_path / "no", "--recipe", recipe).stderr


def test_a_smoother_is_trained_evaluated_and_used_by_a_recipe(tmp_path: Path) -> None:
    texts = [f"{thing}{also}哈怎么还没到" for thing in ("手机", "快递", "套餐", "发票") for also in range(20)]
    pairs, made = tmp_path / "pairs.jsonl", tmp_path / "smoother"
    rows = [{"spoken": f"呃{text}", "written": text.replace("哈", "")} for text in texts]
    pairs.write_text("\n".join(json.dumps(row) for row in [*rows, {"spoken": "只有一半"}]), "utf-8")
    trained = _run("smoother", "train", pairs, "--out", made, "--units", 16, "--epochs", 20)
    assert trained.exit_code == 0, trained.output
    assert trained.stdout == ""
    assert "rules alone" in trained.stderr
    assert "1 quarantined" in trained.stderr
    measured = _run("smoother", "evaluate", made, pairs)
    assert measured.stderr == ""
    assert json.loads(measured.stdout)["f05"] > json.loads(measured.stdout)["rules_alone"]["f05"]

    said = [{"role": "user", "content": "呃订单号哈怎么还没到"}, {"role": "assistant", "content": "好的"}]
    talk, recipe, out = tmp_path / "talk.jsonl", tmp_path / "recipe.json", tmp_path / "out"
    talk.write_text(json.dumps({"messages": said}), "utf-8")
    recipe.write_text(json.dumps({"operators": [{"kind": "smooth_disfluency", "smoother": str(made)}]}))
    assert _run("curate", talk, "--out", out, "--recipe", recipe).exit_code == 0
    (row,) = pl.read_parquet(out / "segments")["messages"].to_list()
    assert row[0]["content"] == "订单号怎么还没到"
    recipe.write_text(json.dumps({"operators": [{"kind": "smooth_disfluency", "smoother": str(tmp_path)}]}))
    assert "holds no" in _run("curate", talk, "--out", tmp_path / "no", "--recipe", recipe).stderr


def test_a_version_is_written_whole_and_never_over_another(tmp_path: Path, talk: Path) -> None:
    out = tmp_path / "out"
    first = _run("curate", talk, "--out", out, "--as-of", "2026-11-01")
    assert (first.exit_code, first.stdout) == (0, "")
    names = {"segments", "trace", "dropped", "tags.parquet", "manifest.json", "quarantine.parquet", "report.json"}
    assert {path.name for path in out.iterdir()} == names
    before = (out / "manifest.json").read_bytes()
    again = _run("curate", talk, "--out", out)
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert (out / "manifest.json").read_bytes() == before
    (out / "segments" / "00007.parquet").write_bytes(b"old")
    assert _run("curate", talk, "--out", out, "--force", "--as-of", "2026-11-01").exit_code == 0
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in (out / "segments").iterdir()] == ["00000.parquet"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["curate", "{folder}", "--out", "{folder}/out"], "is a directory"),
        (["curate", "{folder}/none", "--out", "{folder}/out"], "does not exist"),
        (["curate", "{talk}", "--out", "{folder}"], "holds other things than a version"),
        (["curate", "{talk}", "--out", "{folder}/out", "--recipe", "{talk}"], "is not valid JSON"),
        (["curate", "{talk}", "--out", "{folder}/out", "--speakers", "[]"], "--speakers must be a JSON object"),
        (["curate", "{talk}", "--out", "{folder}/out", "--as-of", "soon"], "does not match the format"),
        (["curate", "{empty}", "--out", "{folder}/out"], "empty"),
        (["classifier", "train", "{talk}", "--out", "{folder}/c"], "text"),
        (["smoother", "train", "{talk}", "--out", "{folder}/s"], "at least 50 different pairs"),
        (["smoother", "evaluate", "{folder}", "{folder}/labels.jsonl"], "holds no smoother"),
        (["classifier", "evaluate", "{folder}", "{folder}/labels.jsonl"], "holds no classifier"),
        (["classifier", "train", "{folder}/labels.jsonl", "--out", "{folder}"], "not an empty folder"),
        (["classifier", "train", "{folder}/labels.jsonl", "--out", "{folder}/c", "--epoch", "0"], "epoch"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, talk: Path, arguments: Sequence[str], told: str) -> None:
    _labels(tmp_path)
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    made = _run(*(word.format(folder=tmp_path, talk=talk, empty=empty) for word in arguments))
    assert made.exit_code != 0
    assert made.stdout == ""
    assert made.stderr.startswith("Error: ")
    assert made.stderr.count("\n") == 1
    assert told in made.stderr
    assert not list(tmp_path.glob("out/.ingest-*"))


def test_a_killed_run_leaves_no_process_and_can_be_run_again(tmp_path: Path, examples: Path) -> None:
    sources, out = [tmp_path / f"{name}.jsonl" for name in "abc"], tmp_path / "out"
    for source in sources:
        source.write_bytes((examples / "dialogues.jsonl").read_bytes() * 20)
    command = [sys.executable, "-m", "app.cli", "curate", *map(str, sources), "--out", str(out), "--workers", "3"]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    workers: list[psutil.Process] = []
    while len(workers) < 2 and running.poll() is None:
        workers = [
            child
            for child in psutil.Process(running.pid).children(recursive=True)
            if "--multiprocessing-fork" in child.cmdline()
        ]
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=15)[1] == []
    assert not (out / "manifest.json").exists()
    assert _run("curate", examples / "dialogues.jsonl", "--out", out).exit_code == 0
    assert not list(out.glob(".ingest-*"))
