"""AdamW with decoupled weight decay, the norm of its gradients, and the scale of fp16's loss."""

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from trainer.parallel import full

if TYPE_CHECKING:  # the benchmark of a GPU runs without pydantic
    from trainer.config import Optim

FIRST_SCALE = 2.0**16
GROWTH_STEPS = 2_000
"""Steps without overflow after which the scale is tried at its double."""


def make_optimizer(model: nn.Module, optim: "Optim") -> torch.optim.AdamW:
    """AdamW over what is trained, in fp32; matrices decay, norms, biases and embeddings do not."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    trained = list({id(p): p for p in model.parameters() if p.requires_grad}.values())
    plain = [p for p in trained if p.ndim < 2 or id(p) in embeddings]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
    groups = [
        {"params": params, "weight_decay": decay} for params, decay in ((decayed, optim.weight_decay), (plain, 0.0))
    ]
    assert isinstance(optim.peak_lr, float)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=optim.peak_lr, betas=optim.betas, eps=1e-8, fused=True
    )


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float, scale: float = 1.0) -> float:
    """Divides the gradients by the loss scale and clips them; returns their norm over all ranks as it was between."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    scaled_norm = full(nn.utils.get_total_norm(gradients))
    if scale != 1.0:
        torch._foreach_mul_(gradients, 1 / scale)
    nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, scaled_norm / scale)
    return float(scaled_norm) / scale


class LossScale:
    """What an fp16 run multiplies its loss by, so that small gradients are no zeros; 1 in any other precision.

    A step whose gradients overflow is skipped and halves the scale. The norm over all ranks decides, so all do alike.
    """

    def __init__(self, precision: str, value: float = 1.0, good_steps: int = 0) -> None:
        self._dynamic = precision == "fp16"
        self.value = (value if value != 1.0 else FIRST_SCALE) if self._dynamic else 1.0
        self.good_steps = good_steps

    def skips(self, loss: float, grad_norm: float) -> bool:
        """Whether the scale is to blame for gradients that are no numbers: the loss itself is one."""
        return self._dynamic and math.isfinite(loss) and not math.isfinite(grad_norm)

    def update(self, skipped: bool) -> None:
        """Learns from a step."""
        self.good_steps = 0 if skipped else self.good_steps + 1
        if skipped:
            self.value /= 2
        elif self._dynamic and self.good_steps % GROWTH_STEPS == 0:
            self.value *= 2
