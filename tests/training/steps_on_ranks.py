"""What ranks of one process each find of a step: run as `python steps_on_ranks.py FOLDER RANK WORLD NAME…`.

Each rank writes `rank-R.pt`, a mapping of what it found. The model and the rows are the same whatever the number.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.blocks import prepare_blocks
from trainer.config import TrainConfig, parse_config
from trainer.data.batches import Batch
from trainer.loss import LanguageModelLoss
from trainer.optim import LossScale, make_optimizer
from trainer.parallel import full, shard
from trainer.recovery.beacon import Beacon
from trainer.step import Found, Stepper

CPU = torch.device("cpu")
LR, DECAY, NUM_ROWS, LENGTH = 1e-3, 0.1, 6, 48


class Run:
    """A tiny model of two blocks and one step of six rows, of which only the even ones have targets."""

    def __init__(self, folder: Path, rank: int, world: int, *, scale: float = 1.0, **run: Any) -> None:
        self.config: TrainConfig = parse_config(
            {
                "model": {"scratch": {}},
                "data": {"version": "m"},
                "optim": {"peak_lr": LR, "weight_decay": DECAY},
                "run": run,
            }
        )
        torch.manual_seed(0)
        structure = LlamaConfig(
            vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=False,
        )  # fmt: skip
        self.model = LanguageModelLoss(LlamaForCausalLM(structure))
        self.prepared = prepare_blocks(self.model, self.config, CPU, LENGTH)
        self.model = shard(self.model, self.config, CPU).train()
        self.optimizer = make_optimizer(self.model, self.config.optim)
        self.scale = LossScale(self.config.run.precision, scale)
        beacon = Beacon(folder, rank)
        self.stepper = Stepper(self.config, self.model, self.optimizer, self.scale, CPU, beacon, ("main", "mixed in"))
        self.batch = _batch(rank, world)

    def gradients(self) -> Found:
        return self.stepper.gradients(self.batch, 1, asks_to_stop=False)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: full(tensor.detach()).clone() for name, tensor in self.model.named_parameters()}

    def whole_gradients(self) -> dict[str, torch.Tensor]:
        return {name: full(p.grad) for name, p in self.model.named_parameters() if p.grad is not None}


def _batch(rank: int, world: int) -> Batch:
    """Rows in strides, as ranks take them: with two ranks the second one has no targets at all."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(96, (NUM_ROWS, LENGTH), generator=generator)
    positions = torch.arange(LENGTH).repeat(NUM_ROWS, 1) % 17
    labels = ids.roll(-1, 1)
    labels[:, :5] = labels[1::2] = labels[:, -1] = -100
    mine = [
        (ids[row : row + 1], positions[row : row + 1], labels[row : row + 1]) for row in range(rank, NUM_ROWS, world)
    ]
    return Batch(
        mine, tokens=NUM_ROWS * LENGTH, target_tokens=int((labels != -100).sum()), epoch=0, segment="s",
        addresses=[[("s", row)] for row in range(rank, NUM_ROWS, world)],
        sources=[[int(row >= 4)] for row in range(rank, NUM_ROWS, world)],
    )  # fmt: skip


def gradients(folder: Path, rank: int, world: int, **run: Any) -> dict[str, Any]:
    """Of one step, clipped to 1."""
    made = Run(folder, rank, world, **run)
    found = made.gradients()
    return {"facts": found.facts(), "gradients": made.whole_gradients(), "prepared": made.prepared}


def overflow(folder: Path, rank: int, world: int) -> dict[str, Any]:
    """Steps of fp16 from a scale that is far too large until one is applied."""
    made = Run(folder, rank, world, precision="fp16", scale=2.0**30)
    before = made.weights()
    scales, moved = [], []
    for _ in range(40):
        found = made.gradients()
        made.stepper.apply(LR, found.skipped)
        scales.append(found.loss_scale)
        moved.append(any(not torch.equal(weight, before[name]) for name, weight in made.weights().items()))
        if not found.skipped:
            break
    return {"scales": scales, "moved": moved, "facts": found.facts(), "next": made.scale.value}


def decay(folder: Path, rank: int, world: int) -> dict[str, Any]:
    """Weights before and after a step whose gradients are all zero."""
    made = Run(folder, rank, world, precision="fp32")
    before = made.weights()
    for parameter in made.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.stepper.apply(LR, skipped=False)
    return {"before": before, "after": made.weights()}


FOUND: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "plain": partial(gradients, precision="fp32"),
    "twice": partial(gradients, precision="fp32", activation_checkpointing=True),
    "compiled": partial(gradients, precision="fp32", compile=True, activation_checkpointing=True),
    "half": partial(gradients, precision="fp16"),
    "overflow": overflow,
    "decay": decay,
}


def main(folder: Path, rank: int, world: int, wanted: list[str]) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), world)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.save({name: FOUND[name](folder, rank, world) for name in wanted}, folder / f"rank-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
