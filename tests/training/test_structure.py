"""Structures trained by two real ranks: activations and positions from scratch, LoRA on a base; what is exported."""

import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_base import make_tiny_base
from transformers import AutoModelForCausalLM

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.generate import load

STEPS = 10
SCRATCH = {"preset": "tiny", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 800}
LORA = {"lora": {"rank": 4, "dropout": 0.05}}
IDS = torch.arange(5, 29).reshape(1, 24)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    folder = tmp_path_factory.mktemp("version")
    curate([examples / "dialogues.jsonl"], folder, recipe=parse_recipe(None), as_of=date(2026, 11, 1))
    return folder / "manifest.json"


def trained(folder: Path, manifest: Path, model: dict[str, Any], **optim: float) -> Path:
    """The run directory of a short run that succeeded."""
    config = {
        "model": model,
        "data": {"version": str(manifest), "max_source_length": 128, "max_target_length": 32},
        "batch": {"tokens": 1280},
        "optim": optim,
        "run": {"max_steps": STEPS, "nproc": 2},
        "evaluate": {"every_steps": STEPS, "bleu_samples": 4, "max_new_tokens": 8},
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "run"


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def checkpoint_of(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step}"


@pytest.mark.filterwarnings("ignore:.*single process")
@pytest.mark.parametrize(("activation", "position"), [("geglu", "rope"), ("swiglu", "alibi"), ("geglu", "alibi")])
def test_each_structure_learns_and_is_opened_by_transformers_with_the_same_logits(
    activation: str, position: str, manifest: Path, tmp_path: Path
) -> None:
    """swiglu with rope is what test_runs.py trains."""
    run = trained(tmp_path, manifest, {"scratch": {**SCRATCH, "activation": activation, "position": position}})
    losses = [line["loss"] for line in lines(run, "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.1
    checks = {check["name"]: check for check in json.loads((run / "architecture.json").read_text())}
    assert [check["ok"] for check in checks.values()] == [True] * 7
    assert ("ALiBi" in checks["rope_or_alibi"]["found"]) == (position == "alibi")
    assert ("gelu" in checks["gated_activation"]["found"]) == (activation == "geglu")
    assert not [event for event in lines(run, "events.jsonl") if "structure:" in event["message"]]

    exported = AutoModelForCausalLM.from_pretrained(run / "model")
    assert type(exported).__name__ == ("AlibiForCausalLM" if position == "alibi" else "LlamaForCausalLM")
    checkpointed, _ = load(run, checkpoint_of(run, STEPS))
    assert torch.equal(exported(IDS).logits, checkpointed(IDS).logits)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "clerk")


@pytest.fixture(scope="module")
def lora_run(base: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("lora"), manifest, LORA | {"base": str(base)}, peak_lr=2e-2)


def test_lora_learns_and_tells_what_the_base_is(lora_run: Path) -> None:
    losses = [line["loss"] for line in lines(lora_run, "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.05
    (built,) = [event["data"] for event in lines(lora_run, "events.jsonl") if event["message"] == "model built"]
    assert 0 < built["trained"] < 0.5 * built["parameters"]
    assert [check["ok"] for check in json.loads((lora_run / "architecture.json").read_text())] == [True] * 7


def test_loras_checkpoints_hold_the_adapters_and_nothing_of_the_base(lora_run: Path) -> None:
    from torch.distributed.checkpoint import FileSystemReader

    names = FileSystemReader(checkpoint_of(lora_run, STEPS)).read_metadata().state_dict_metadata
    weights = [name for name in names if name.startswith("model.")]
    assert len(weights) == 2 * 7 * 2
    assert all(".lora_A." in name or ".lora_B." in name for name in weights)
    assert not [name for name in names if "base_layer" in name or "embed_tokens" in name]


@pytest.mark.filterwarnings("ignore:.*single process", "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_adapter_merged_model_and_checkpoint_are_one_model(lora_run: Path, base: Path) -> None:
    from peft import PeftModel

    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = whole(IDS).logits
    adapted = PeftModel.from_pretrained(whole, lora_run / "adapter")(IDS).logits
    merged = AutoModelForCausalLM.from_pretrained(lora_run / "model", dtype=torch.float32)(IDS).logits
    moved = (adapted - before).norm()
    assert moved > 0.05 * before.norm(), "the adapter does something"
    assert (merged - adapted).norm() < 0.02 * adapted.norm(), "but for the rounding to bf16"
    answering, _ = load(lora_run, checkpoint_of(lora_run, STEPS))
    assert (answering(IDS).logits - adapted).norm() < 0.02 * adapted.norm()


def test_what_lora_does_not_touch_is_the_bases_bit_by_bit(lora_run: Path, base: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (base, lora_run / "model"))
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if "_proj" not in name}


def test_a_lora_that_lost_its_last_step_learns_it_again_as_it_was(
    lora_run: Path, base: Path, manifest: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(lora_run, tmp_path / "run"))
    for name in ("model", "adapter", f"checkpoints/step-{STEPS}"):
        shutil.rmtree(run / name)
    (run / "result.json").unlink()
    trained(tmp_path, manifest, LORA | {"base": str(base)}, peak_lr=2e-2)
    events = [event["message"] for event in lines(run, "events.jsonl")]
    assert f"resumed at step {STEPS - 1}" in events
    first, again = ([line["loss"] for line in lines(folder, "metrics.jsonl")] for folder in (lora_run, run))
    assert again == pytest.approx(first, abs=1e-5)
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (lora_run, run)]
    assert all(torch.allclose(tensor, weights[1][name], atol=1e-5) for name, tensor in weights[0].items())


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"targets": ["q_proj", "query"]}, "no linear layer is called query; there are down_proj, "),
        ({"targets": ["lm_head"]}, "no linear layer is called lm_head"),
    ],
)
def test_targets_that_do_not_exist_are_refused_by_name(base: Path, lora: dict[str, Any], message: str) -> None:
    from trainer.config import ConfigError, Lora
    from trainer.structure.lora import add_adapters

    with pytest.raises(ConfigError, match=message):
        add_adapters(AutoModelForCausalLM.from_pretrained(base), Lora(**lora))
