"""Measures training on a GPU: tokens a second, model FLOPs utilisation, peak memory; `make bench-gpu` runs it.

Models of three sizes from nothing, on rows of packed conversations of 1,024 and 4,096 tokens: the trainer's own step,
with its attention, its compiled blocks, FSDP2, the loss in chunks, clipping and AdamW. Each case is a process of its
own. It wants nothing but torch, transformers and numpy, so it runs where the rest of Talkmill is not installed:
`PYTHONPATH=. python benchmarks/gpu.py`. Prints a table and writes `results/gpu.json`.

FLOPs are what the task asks for, not what is done: nothing for padding, nothing for activations computed twice, logits
for target tokens only, attention over each conversation's own length.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import distributed
from transformers import AutoModelForCausalLM, LlamaConfig

from trainer.blocks import prepare_blocks
from trainer.data.packing import pack
from trainer.loss import LanguageModelLoss
from trainer.optim import clip_gradients, make_optimizer
from trainer.parallel import shard, start_group, this_device
from trainer.structure.attention import choose_attention

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "gpu.json"
FORMULA = "FLOPs = 6 (M tokens + E targets) + 6 layers width (sum over conversations of length²), M the blocks' matrices, E the output matrix, width all heads'; MFU = FLOPs / (seconds peak)"
SHAPES: dict[str, dict[str, int]] = {  # of SmolLM2-135M, Qwen2.5-0.5B and Qwen2.5-1.5B
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152},
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936},
    "small": {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512},
}  # fmt: skip
HEADLINE = ("1.5B", 1024)
PEAK_TFLOPS = {
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
}
"""Dense bf16 by NVIDIA's data sheets; the first name that stands in the card's counts."""
TARGET_SHARE = 0.4


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures training on a GPU.")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["135M", "0.5B", "1.5B"])
    parser.add_argument("--row-tokens", nargs="+", type=int, default=[1024, 4096])
    parser.add_argument(
        "--micro-tokens", type=int, default=16_384, help="tokens of one forward pass; halved until it fits"
    )
    parser.add_argument("--steps", type=int, default=20, help="measured, after five that are not")
    parser.add_argument("--peak-tflops", type=float, help="of the card in bf16, if it is not known here")
    parser.add_argument(
        "--small", action="store_true", help="a model and rows that a CPU can do in a minute; writes nothing"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(**json.loads(options.case))))
        return 0
    if not options.small and not torch.cuda.is_available():
        parser.error("no GPU is visible to torch; --small proves the script on a CPU")
    print(FORMULA)
    peak = options.peak_tflops or peak_tflops()
    models, rows = (["small"], [128]) if options.small else (options.models, options.row_tokens)
    micro, steps = (512, 3) if options.small else (options.micro_tokens, options.steps)
    found = [one_case(model, row, micro, steps, peak) for model in models for row in rows]
    show(found)
    body = {
        "cases": found,
        "talkmill_mfu": headline(found),
        "headline": HEADLINE,
        "formula": FORMULA,
        "machine": machine(peak),
    }
    if options.small:
        print(json.dumps(body))
    else:
        options.out.write_text(json.dumps(body, indent=2) + "\n")
    return 0


def one_case(model: str, row_tokens: int, micro_tokens: int, steps: int, peak: float | None) -> dict[str, Any]:
    """A case's figures, with the largest micro-batch that the card holds; why there are none where none fits."""
    reason = ""
    while micro_tokens >= row_tokens:
        case = {"shape": model, "row_tokens": row_tokens, "micro_tokens": micro_tokens, "steps": steps, "peak": peak}
        command = [sys.executable, __file__, "--case", json.dumps(case)]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return found
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        if "out of memory" not in done.stderr:
            break
        micro_tokens //= 2
    return {"model": model, "row_tokens": row_tokens, "error": reason}


def measure(shape: str, row_tokens: int, micro_tokens: int, steps: int, peak: float | None) -> dict[str, Any]:
    """Trains for some steps in this process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    device = this_device()
    start_group(device)
    torch.manual_seed(0)
    run = SimpleNamespace(precision="bf16", compile="auto", activation_checkpointing="auto")
    config = SimpleNamespace(run=run)
    structure = LlamaConfig(**SHAPES[shape], max_position_embeddings=row_tokens, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(structure, dtype=torch.float32)
    choose_attention(model, run)
    loss = LanguageModelLoss(model)
    done = prepare_blocks(loss, config, device, micro_tokens)
    loss = shard(loss.to(device), config, device).train()
    optim = SimpleNamespace(peak_lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    optimizer = make_optimizer(loss, optim)
    warm_up = 5 if device.type == "cuda" else 1
    batches = [Batch(row_tokens, micro_tokens, structure.vocab_size, seed) for seed in range(warm_up + steps)]
    began = 0.0
    for number, batch in enumerate(batches):
        if number == warm_up:
            synchronise(device)
            began = time.perf_counter()
        value = loss(
            *(tensor.to(device) for tensor in batch.tensors), num_targets=batch.targets, num_samples=batch.samples
        ).sum()
        (value / batch.targets).backward()
        clip_gradients(loss, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    synchronise(device)
    seconds = time.perf_counter() - began
    measured = batches[warm_up:]
    flops = sum(batch.flops(model, structure) for batch in measured)
    distributed.destroy_process_group()
    return {
        "model": shape, "parameters": sum(p.numel() for p in loss.parameters()), "row_tokens": row_tokens, "micro_tokens": micro_tokens,
        "attention": model.config._attn_implementation, **done, "steps": steps, "seconds": seconds, "loss": float(value.detach()) / batches[-1].targets,
        "tokens_per_second": sum(batch.tokens for batch in measured) / seconds, "tflops_per_second": flops / seconds / 1e12,
        "mfu": None if peak is None else flops / seconds / (peak * 1e12),
        "filled": sum(batch.tokens for batch in measured) / (len(measured) * measured[0].tensors[0].numel()),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }  # fmt: skip


class Batch:
    """A micro-batch of packed conversations, lengths log-normal about 300 tokens, as chats with customers have them."""

    def __init__(self, row_tokens: int, micro_tokens: int, vocab: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        num_rows = micro_tokens // row_tokens
        drawn = random.lognormal(np.log(300), 0.7, 8 * micro_tokens // 300 + 8).astype(int).clip(8, row_tokens)
        rows = pack(drawn[: np.searchsorted(drawn.cumsum(), micro_tokens)].tolist(), row_tokens)[:num_rows]
        ids = random.integers(0, vocab, (num_rows, row_tokens))
        positions = np.tile(np.arange(row_tokens), (num_rows, 1))
        labels = np.full((num_rows, row_tokens), -100)
        self.lengths: list[int] = []
        for number, row in enumerate(rows):
            at = 0
            for index in row:
                end = at + int(drawn[index])
                positions[number, at:end] = np.arange(end - at)
                learned = at + random.choice(end - at, max(1, int(TARGET_SHARE * (end - at))), replace=False)
                labels[number, learned] = ids[number, learned]
                self.lengths.append(end - at)
                at = end
            positions[number, at:] = np.arange(row_tokens - at)
        self.tensors = tuple(torch.from_numpy(array) for array in (ids, positions, labels))
        self.tokens, self.targets = sum(self.lengths), int((labels != -100).sum())
        self.samples = int((positions == 0).sum())

    def flops(self, model: Any, structure: LlamaConfig) -> float:
        """See FORMULA."""
        output = structure.vocab_size * structure.hidden_size
        matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2) - output
        width = structure.num_hidden_layers * structure.num_attention_heads * structure.head_dim
        attention = 6 * width * sum(length**2 for length in self.lengths)
        return 6.0 * (matrices * self.tokens + output * self.targets) + attention


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_tflops() -> float | None:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((float(peak) for card, peak in PEAK_TFLOPS.items() if card in name), None)


def headline(found: list[dict[str, Any]]) -> float | None:
    return next((case.get("mfu") for case in found if (case["model"], case["row_tokens"]) == HEADLINE), None)


def machine(peak: float | None) -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "gpu": gpu, "peak_tflops": peak, "cuda": torch.version.cuda, "cores": os.cpu_count(), "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")}, "commit": commit.stdout.strip(),
    }  # fmt: skip


def show(found: list[dict[str, Any]]) -> None:
    print(f"{'model':>6} {'row':>5} {'micro':>6} {'tokens/s':>9} {'TFLOP/s':>8} {'MFU':>6} {'peak GB':>8}  attention")
    for case in found:
        if "error" in case:
            print(f"{case['model']:>6} {case['row_tokens']:>5} {case['error']}")
            continue
        mfu = "-" if case["mfu"] is None else f"{case['mfu']:.1%}"
        peak = "-" if case["peak_memory_bytes"] is None else f"{case['peak_memory_bytes'] / 1e9:.1f}"
        print(
            f"{case['model']:>6} {case['row_tokens']:>5} {case['micro_tokens']:>6} {case['tokens_per_second']:>9.0f} "
            f"{case['tflops_per_second']:>8.2f} {mfu:>6} {peak:>8}  {case['attention']}"
        )


if __name__ == "__main__":
    sys.exit(main())
