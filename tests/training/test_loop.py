"""Whole runs of the loop: a growing batch in fp16 that goes on elsewhere after a kill, the best model, bad weights.

The runs learn a version and another one mixed in.
"""

import json
import subprocess
import sys
import time
from datetime import date
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny_base import make_tiny_base

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.config import load_config
from trainer.schedule import Schedule

STEPS, ROW = 30, 224
CONFIG: dict[str, Any] = {
    "model": {"scratch": {"preset": "tiny", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 600}},
    "data": {"max_source_length": 160, "max_target_length": 64, "validation_share": 0.2},
    "batch": {"tokens": 8 * ROW, "micro_tokens": 2 * ROW, "ramp": {"start_tokens": 2 * ROW, "until_tokens": 60 * ROW}},
    "optim": {"peak_lr": 0.01, "min_lr_ratio": 1.0},
    "run": {"max_steps": STEPS, "nproc": 2, "precision": "fp16"},
    "checkpoint": {"every_steps": 7, "keep": 1},
    "evaluate": {"every_steps": 5, "bleu_samples": 0},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """A few conversations, so that a run soon knows them by heart."""
    return version_of(tmp_path_factory.mktemp("version"), examples, slice(20))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """What is mixed in."""
    return version_of(tmp_path_factory.mktemp("other"), examples, slice(20, 30))


def version_of(folder: Path, examples: Path, which: slice) -> Path:
    few = folder / "few.jsonl"
    few.write_text("".join((examples / "dialogues.jsonl").read_text("utf-8").splitlines(keepends=True)[which]), "utf-8")
    curate([few], folder / folder.name, recipe=parse_recipe(None), as_of=date(2026, 11, 1))
    return folder / folder.name / "manifest.json"


def start(folder: Path, manifest: Path, other: Path, **changes: dict[str, Any]) -> "subprocess.Popen[bytes]":
    config = {part: {**CONFIG.get(part, {}), **changes.get(part, {})} for part in {*CONFIG, *changes}}
    config["data"] |= {"version": str(manifest), "mix": [{"version": str(other), "weight": 0.5}]}
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / name).read_text("utf-8").splitlines()]


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "result.json").read_text("utf-8"))
    return found


def qualities(folder: Path) -> dict[int, dict[str, Any]]:
    paths = (folder / "run" / "checkpoints").glob("step-*/quality.json")
    return {int(path.parent.name.removeprefix("step-")): json.loads(path.read_text("utf-8")) for path in paths}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, manifest: Path, other: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert start(folder, manifest, other).wait(240) == 0, (folder / "log").read_text()[-2000:]
    return folder


def test_the_batch_grows_and_the_rate_follows_the_rows(finished: Path) -> None:
    rows = [line["rows"] for line in lines(finished)]
    assert (rows[0], sorted(set(rows)), len(rows)) == (2, [2, 4, 6, 8], STEPS)
    assert rows == sorted(rows)
    assert list(accumulate(rows))[rows.index(8) - 1] >= 60
    schedule = Schedule.of(load_config(finished / "run" / "config.json"), num_rows=1)
    assert [line["lr"] for line in lines(finished)] == [schedule.learning_rate(cursor) for cursor in accumulate(rows)]


def test_losses_are_told_by_source(finished: Path, manifest: Path, other: Path) -> None:
    for line in lines(finished):
        told = line["sources"].values()
        assert sum(source["target_tokens"] for source in told) == line["target_tokens"]
        learned = [source for source in told if source["target_tokens"]]
        mean = sum(source["loss"] * source["target_tokens"] for source in learned) / line["target_tokens"]
        assert line["loss"] == pytest.approx(mean, rel=1e-4)
    names = [path.parent.name for path in (manifest, other)]
    tokens = [sum(line["sources"][name]["target_tokens"] for line in lines(finished)) for name in names]
    assert 0.25 < tokens[1] / tokens[0] < 0.75


def test_fp16_learns_and_tells_its_scale(finished: Path) -> None:
    found = lines(finished)
    assert found[0]["loss_scale"] == 2.0**16
    assert min(line["loss"] for line in found) < found[0]["loss"] - 1
    assert all(line["grad_norm"] > 0 for line in found if not line.get("skipped"))
    scales = [2.0**16, *(line["loss_scale"] / (2 if line.get("skipped") else 1) for line in found)]
    assert [line["loss_scale"] for line in found] == scales[:-1], "a skipped step halves it"
    kept = {step: quality for step, quality in qualities(finished).items() if step}
    assert {step: quality["loss_scale"] for step, quality in kept.items()} == {step: scales[step - 1] for step in kept}
    assert all(quality["finite"] for quality in kept.values())


def test_the_best_checkpoint_is_kept_and_exported_beside_the_last(finished: Path) -> None:
    """With so large a rate and so few conversations the last step is not the best one."""
    measured = {line["step"]: line["validation_loss"] for line in lines(finished, "evaluations.jsonl")}
    best = min(measured, key=lambda step: measured[step])
    assert best != STEPS
    assert result(finished)["best"] == {"step": best, "validation_loss": measured[best]}
    assert sorted(qualities(finished)) == sorted({0, best, STEPS}), "the first, the best and one of the newest"
    assert {step: quality["validation_loss"] for step, quality in qualities(finished).items()} == {
        0: None, best: measured[best], STEPS: measured[STEPS],
    }  # fmt: skip


def test_the_exported_best_is_the_checkpoints(finished: Path) -> None:
    from transformers import AutoModelForCausalLM

    from trainer.generate import load

    best = AutoModelForCausalLM.from_pretrained(finished / "run" / "best", dtype=torch.bfloat16)
    last = AutoModelForCausalLM.from_pretrained(finished / "run" / "model", dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match="single process"):
        kept, _ = load(finished / "run", finished / "run" / "checkpoints" / f"step-{result(finished)['best']['step']}")
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(best(ids).logits, kept(ids).logits)
    assert not torch.equal(best(ids).logits, last(ids).logits)


def test_a_run_killed_while_it_writes_goes_on_with_one_process_as_if_nothing_had_happened(
    tmp_path: Path, manifest: Path, other: Path, finished: Path
) -> None:
    run = start(tmp_path, manifest, other)
    wait_for_a_half_written_checkpoint(tmp_path, run)
    for process in [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]:
        process.kill()
    run.wait()
    done = max(qualities(tmp_path))
    assert done >= 5
    assert all(
        (tmp_path / "run" / "checkpoints" / f"step-{step}" / ".metadata").exists() for step in qualities(tmp_path)
    )
    alone = {**CONFIG["run"], "nproc": 1}
    assert start(tmp_path, manifest, other, run=alone).wait(240) == 0, (tmp_path / "log").read_text()
    whole, resumed = lines(finished), lines(tmp_path)
    for name in ("step", "rows", "segment", "tokens", "target_tokens", "lr"):
        assert [line[name] for line in resumed] == [line[name] for line in whole]
    losses = [[line["loss"] for line in run[: done + 1]] for run in (resumed, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-2), "fp16, and sums in another order"
    assert not list((tmp_path / "run" / "checkpoints").glob(".step-*"))


def wait_for_a_half_written_checkpoint(folder: Path, run: "subprocess.Popen[bytes]") -> None:
    """Until one behind step 5 is being written."""
    deadline = time.monotonic() + 120
    while not any(int(p.name.split("-")[1].split(".")[0]) > 5 for p in folder.glob("run/checkpoints/.step-*.new")):
        assert run.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]


def test_weights_that_are_no_numbers_fail_the_run_with_the_reason(tmp_path: Path, manifest: Path, other: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = make_tiny_base(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.get_output_embeddings().weight[7, 3] = float("nan")
    model.save_pretrained(base)
    settings = {"model": {"base": str(base), "scratch": None}, "optim": {"peak_lr": 5e-5}}
    short = {"run": {"max_steps": 3, "nproc": 1}, "batch": {"ramp": None}}
    assert start(tmp_path, manifest, other, **settings, **short).wait(240) == 1
    assert result(tmp_path)["status"] == "failed"
    assert "loss nan" in result(tmp_path)["error"]
    assert not (tmp_path / "run" / "model").exists()
