"""Torch's own kernel in the place where tests/unit/trainer/structure/test_attention.py has its definition."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedConfig, PreTrainedModel

from trainer.config import Run
from trainer.loss import LanguageModelLoss
from trainer.structure.attention import VARLEN, choose_attention

ROOT = Path(__file__).parents[2]
SIZES = {
    "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip


def made(structure: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(structure, dtype=torch.bfloat16).cuda()


def packed_rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    lengths = [[200, 37, 1, 18], [90, 166]]
    positions = torch.tensor([[place for length in row for place in range(length)] for row in lengths])
    ids = torch.randint(3, 512, positions.shape, generator=torch.Generator().manual_seed(1))
    return ids.cuda(), positions.cuda(), torch.where(positions % 2 == 1, ids, -100).cuda()


@pytest.mark.parametrize("structure", [LlamaConfig(**SIZES), MistralConfig(**SIZES, sliding_window=16)])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_kernel_gives_the_losses_and_gradients_of_masked_rows(structure: PreTrainedConfig, compiled: bool) -> None:
    masked = LanguageModelLoss(made(structure))
    kernel = copy.deepcopy(masked)
    choose_attention(kernel.model, Run())
    assert kernel.model.config._attn_implementation == VARLEN
    if compiled:
        for layer in kernel.model.model.layers:
            layer.compile()
    losses = [model(*packed_rows()) for model in (masked, kernel)]
    assert torch.allclose(losses[0], losses[1], rtol=1e-2)
    for loss in losses:
        loss.sum().backward()
    for (name, one), other in zip(masked.named_parameters(), kernel.parameters(), strict=True):
        if one.grad is not None and other.grad is not None:
            assert (one.grad - other.grad).norm() < 0.05 * one.grad.norm() + 1e-3, name


def test_generation_goes_by_sdpa() -> None:
    plain = made(LlamaConfig(**SIZES)).eval()
    model = copy.deepcopy(plain)
    choose_attention(model, Run())
    prompt = torch.arange(5, 25, device="cuda")[None]
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    assert model.generate(prompt, **settings).tolist() == plain.generate(prompt, **settings).tolist()


def test_fp32_stays_as_it_is() -> None:
    model = made(LlamaConfig(**SIZES))
    choose_attention(model, Run(precision="fp32"))
    assert model.config._attn_implementation == "sdpa"


def test_the_benchmark_runs(tmp_path: Path) -> None:
    options = ["--models", "135M", "--row-tokens", "1024", "--steps", "3", "--out", str(tmp_path / "gpu.json")]
    subprocess.run([sys.executable, "benchmarks/gpu.py", *options], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)
    (case,) = json.loads((tmp_path / "gpu.json").read_text())["cases"]
    assert case["attention"] == VARLEN
    assert case["tokens_per_second"] > 0
