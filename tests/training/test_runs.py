"""Real runs of two CPU ranks: FSDP2 in bf16, resume, failure, no orphans."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.dialogues import encode_prompt

CONFIG: dict[str, Any] = {
    "model": {"scratch": {"preset": "tiny", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 800}},
    "data": {"max_source_length": 160, "max_target_length": 64},
    "batch": {"tokens": 1792},
    "run": {"max_steps": 24, "nproc": 2},
    "checkpoint": {"every_steps": 6},
    "evaluate": {"bleu_samples": 0},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    folder = tmp_path_factory.mktemp("version")
    curate([examples / "dialogues.jsonl"], folder, recipe=parse_recipe(None), as_of=date(2026, 11, 1))
    return folder / "manifest.json"


def start(folder: Path, manifest: Path, **changes: dict[str, Any]) -> "subprocess.Popen[bytes]":
    config = {part: {**CONFIG.get(part, {}), **changes.get(part, {})} for part in {*CONFIG, *changes}}
    config["data"]["version"] = str(manifest)
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "run" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "result.json").read_text())
    return found


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while len(metrics(folder)) < step:
        assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, manifest: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert start(folder, manifest).wait(120) == 0, (folder / "log").read_text()[-2000:]
    return folder


def test_the_loss_falls_and_every_step_has_its_line(finished: Path) -> None:
    lines = metrics(finished)
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.25
    assert all(line["loss_scale"] == 1.0 and line["grad_norm"] > 0 for line in lines)
    assert result(finished)["status"] == "succeeded"
    architecture = json.loads((finished / "run" / "architecture.json").read_text())
    assert [check["ok"] for check in architecture] == [True] * 7


def test_transformers_opens_the_model_and_its_logits_are_the_trainers(finished: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainer.generate import load

    folder = finished / "run" / "model"
    exported = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match="single process"):
        trained, chat = load(finished / "run", finished / "run" / "checkpoints" / "step-24")
    ids = torch.tensor([encode_prompt(chat, [{"role": "user", "content": "你好"}])])
    assert torch.equal(exported(ids).logits, trained(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shown = tokenizer.apply_chat_template([{"role": "user", "content": "你好"}], add_generation_prompt=True)[
        "input_ids"
    ]
    assert shown == ids[0].tolist()
    assert not list(folder.glob("sharded*"))


def test_packed_samples_neither_see_nor_move_each_other(finished: Path) -> None:
    import torch

    from trainer.generate import load
    from trainer.loss import LanguageModelLoss

    model, chat = load(finished / "run", None)
    loss = LanguageModelLoss(model.float())
    samples = [chat.encode_content(text) for text in ("我想查一下话费", "好的，为您查询", "谢谢")]

    def gradients(rows: list[list[list[int]]]) -> tuple[list[float], dict[str, torch.Tensor]]:
        loss.zero_grad()
        losses = []
        for row in rows:
            ids = [token for sample in row for token in sample]
            positions = [place for sample in row for place in range(len(sample))]
            labels = [label for sample in row for label in [*sample[1:], -100]]
            value = loss(*(torch.tensor([values]) for values in (ids, positions, labels))).sum()
            value.backward()
            losses.append(float(value.detach()))
        return losses, {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}

    packed, moved_together = gradients([samples])
    alone, moved_alone = gradients([[sample] for sample in samples])
    assert packed == [pytest.approx(sum(alone), rel=1e-5)]
    assert moved_together.keys() == moved_alone.keys()
    for name, gradient in moved_together.items():
        assert torch.allclose(gradient, moved_alone[name], atol=1e-4 * float(gradient.abs().max())), name


def test_a_stopped_run_resumes_as_if_nothing_had_happened(tmp_path: Path, manifest: Path, finished: Path) -> None:
    run = start(tmp_path, manifest)
    wait_for_step(tmp_path, 9)
    run.send_signal(signal.SIGTERM)
    assert run.wait(40) == 75
    assert result(tmp_path)["status"] == "interrupted"
    assert start(tmp_path, manifest).wait(120) == 0
    whole, resumed = metrics(finished), metrics(tmp_path)
    assert [line["loss"] for line in resumed] == pytest.approx([line["loss"] for line in whole], abs=1e-5)
    assert [line["segment"] for line in resumed] == [line["segment"] for line in whole]


def test_no_rank_outlives_a_killed_launcher(tmp_path: Path, manifest: Path) -> None:
    run = start(tmp_path, manifest)
    wait_for_step(tmp_path, 2)
    ranks = psutil.Process(run.pid).children(recursive=True)
    assert len(ranks) >= 2
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert psutil.wait_procs(ranks, timeout=10)[1] == []


def test_a_version_without_replies_fails_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "silent.jsonl"
    lines = [{"id": str(i), "messages": [{"role": "user", "content": "喂"}]} for i in range(5)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curate([source], tmp_path / "version", recipe=parse_recipe({"operators": []}))
    assert start(tmp_path, tmp_path / "version" / "manifest.json").wait(60) == 1
    assert "no reply to learn" in result(tmp_path)["error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"max_source_length": 99_999}}, "data.max_source_length"),
        ({"model": {"scratch": None, "base": "/nowhere"}}, "model.base"),
        ({"run": {"steps": 3}}, "run.steps"),
    ],
)
def test_a_mistake_in_the_settings_is_one_clear_line(
    tmp_path: Path, manifest: Path, changes: dict[str, Any], message: str
) -> None:
    assert start(tmp_path, manifest, **changes).wait(60) == 2
    log = (tmp_path / "log").read_text().strip()
    assert log.startswith("Error: ")
    assert len(log.splitlines()) == 1
    assert message in log


def test_a_full_disk_at_a_checkpoint_fails_with_the_reason(tmp_path: Path, manifest: Path) -> None:
    """A file may grow to 2 MB, as on a disk with little room left; this model's checkpoints are larger."""
    large = {"scratch": {**CONFIG["model"]["scratch"], "hidden_size": 256}}
    config = {**CONFIG, "model": large, "data": {**CONFIG["data"], "version": str(manifest)}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    limited = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "runpy.run_module('trainer', run_name='__main__', alter_sys=True)\n"
    )
    command = [sys.executable, "-c", limited, str(tmp_path / "config.json"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert result(tmp_path)["status"] == "failed"
    assert "checkpoint of step 0 cannot be written" in result(tmp_path)["error"]
    assert "MB are free" in result(tmp_path)["error"]
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))
