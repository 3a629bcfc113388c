"""AdamW with decoupled weight decay."""

from collections.abc import Iterable

import torch
from torch import nn

from trainer.config import Optim


def make_optimizer(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW over fp32 weights; matrices decay, norms and embeddings do not."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in _unique(model.parameters()):
        (plain if parameter.ndim < 2 or id(parameter) in embeddings else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    assert isinstance(optim.peak_lr, float)
    return torch.optim.AdamW(groups, lr=optim.peak_lr, betas=optim.betas, eps=1e-8, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def _unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(parameter): parameter for parameter in parameters}.values())
