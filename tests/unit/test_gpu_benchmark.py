"""The benchmark of a GPU: that it runs, on a CPU, and counts what it says it counts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig

ROOT = Path(__file__).parents[2]


def test_the_small_form_runs_without_what_a_bare_machine_lacks(tmp_path: Path) -> None:
    for name in ("pydantic", "polars", "orjson", "peft"):  # as if they were not installed
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("FLOPs = ")
    body = json.loads(done.stdout.splitlines()[-1])
    (case,) = body["cases"]
    assert case["tokens_per_second"] > 0
    assert 0.8 < case["filled"] <= 1
    assert case["mfu"] is None, "nobody knows a CPU's peak"
    assert body["talkmill_mfu"] is None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.gpu

    return SimpleNamespace(**vars(benchmarks.gpu))


def test_flops_are_those_that_torch_counts(gpu: SimpleNamespace) -> None:
    """One conversation that fills its row, all of it learned; torch counts attention in full, the benchmark half."""
    structure = LlamaConfig(**gpu.SHAPES["small"], tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(structure, dtype=torch.float32, attn_implementation="eager")
    batch = gpu.Batch(64, 64, structure.vocab_size, 0)
    batch.lengths, batch.tokens, batch.targets = [64], 64, 64
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 64, dtype=torch.long)).logits.sum().backward()
    attention = 6 * structure.num_hidden_layers * structure.hidden_size * 64**2
    assert counter.get_total_flops() == batch.flops(model, structure) + attention


def test_a_batch_is_what_the_trainer_packs(gpu: SimpleNamespace) -> None:
    batch = gpu.Batch(1024, 16_384, 1000, 3)
    ids, positions, labels = batch.tensors
    assert ids.shape == (16, 1024)
    assert batch.samples == int((positions == 0).sum())
    assert batch.targets == int((labels != -100).sum())
    assert 0.9 * ids.numel() < batch.tokens <= ids.numel()
    assert batch.targets == pytest.approx(0.4 * batch.tokens, rel=0.05)
