"""How a block knows the order of its tokens: RoPE, ALiBi, another bias, a recurrent state, or not at all."""

import torch
from torch import nn

from trainer.structure.probe_blocks import NUM_TOKENS, Probe, close, first_of

SMALL = 1e-3
"""Of what norms give, so that scores of queries and keys vanish."""


def position_of(probe: Probe, block: nn.Module) -> str:
    """How a block knows the order of tokens.

    With norms that give next to nothing, scores of queries and keys vanish and attention follows its bias alone: the
    mean of all tokens with RoPE, whatever their order, and an average that falls with distance with ALiBi. An average
    of equal tokens is that token; a recurrent state is not.
    """
    mixer = next((m for m in block.children() if _effect(probe, block, m, 1.0) > 0), None)
    if mixer is None:
        return "none"
    biases = [p for name, p in block.named_parameters() if name.endswith("bias")]
    kept = [p.clone() for p in biases]
    for bias in biases:
        bias.zero_()
    try:
        if _order_counts(probe, block, mixer, SMALL) > 0.02:
            return _by_distance(probe, block, mixer)
        strongest = max(_order_counts(probe, block, mixer, scale) for scale in (1.0, 3.0, 10.0))
        return "rope" if strongest > 1e-3 else "none"
    finally:
        for bias, value in zip(biases, kept, strict=True):
            bias.copy_(value)


def _by_distance(probe: Probe, block: nn.Module, mixer: nn.Module) -> str:
    equal = probe.states[:, :1].expand_as(probe.states)
    mixed = _mixed(probe, block, mixer, SMALL, equal)
    if not close(mixed, mixed[:, -1:].expand_as(mixed)):
        return "recurrence"
    effects = []
    for place in range(NUM_TOKENS - 1):
        changed = equal.clone()
        changed[:, place] = probe.states[:, 1]
        effects.append(float((_mixed(probe, block, mixer, SMALL, changed) - mixed)[:, -1].norm()))
    return "alibi" if effects == sorted(effects) else "bias"


def _order_counts(probe: Probe, block: nn.Module, mixer: nn.Module, scale: float) -> float:
    """What two earlier tokens that change places do to the last one, as a share of what other tokens there do."""
    swapped = probe.states.clone()
    swapped[:, [1, 5]] = swapped[:, [5, 1]]
    moved = _mixed(probe, block, mixer, scale, swapped) - _mixed(probe, block, mixer, scale, probe.states)
    return float(moved[:, -1].norm()) / max(_effect(probe, block, mixer, scale), 1e-30)


def _effect(probe: Probe, block: nn.Module, mixer: nn.Module, scale: float) -> float:
    """What another token at two earlier places does to the last one's output."""
    changed = probe.states.clone()
    changed[:, [1, 5]] = probe.states[:, -1:].flip(-1)
    moved = _mixed(probe, block, mixer, scale, changed) - _mixed(probe, block, mixer, scale, probe.states)
    return float(moved[:, -1].norm())


def _mixed(probe: Probe, block: nn.Module, mixer: nn.Module, scale: float, states: torch.Tensor) -> torch.Tensor:
    with probe.norms_give(block, lambda given: scale * given):
        calls = probe.through(block, states)
    return first_of(calls[mixer].output)
