"""Looking into a model by calling its parts: what a module was given, what a block makes of states of our choosing.

Nothing here goes by names, since every family of models has its own.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.structure.decoder_blocks import blocks_of

NUM_TOKENS = 8
LOOKED_AT = 4
"""Blocks that are called, the first ones: what differs from block to block does so in patterns of up to four."""


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    def first(self) -> torch.Tensor | None:
        """The first tensor of floats that was given."""
        given = (*self.args, *self.kwargs.values())
        return next((x for x in given if isinstance(x, torch.Tensor) and x.is_floating_point()), None)

    def with_first(self, tensor: torch.Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with another first tensor."""
        old = self.first()
        args = tuple(tensor if value is old else value for value in self.args)
        return args, {name: tensor if value is old else value for name, value in self.kwargs.items()}


class _Reached(Exception):  # noqa: N818 - no error: a way out of the model's code
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


class Probe:
    """A model that was called once on a few tokens, and can be called in parts. In fp32, on the CPU, not training."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.blocks = blocks_of(model)[:LOOKED_AT]
        vocabulary = model.get_input_embeddings().num_embeddings
        self.ids = (torch.arange(NUM_TOKENS)[None] * 7 + 11) % vocabulary
        self.calls = self.trace(model, lambda: self.states_for(self.ids))
        entered = self.calls[self.blocks[0]].first()
        assert entered is not None
        self.width = entered.shape[-1]
        self.states = noise_like(entered)
        self.norms = {module for module, call in self.calls.items() if is_norm(module, call)}

    @staticmethod
    def names(root: nn.Module) -> dict[nn.Module, str]:
        """Of all modules under `root`, as the base calls them where adapters were put in."""
        return {module: name.removesuffix(".base_layer") for name, module in root.named_modules()}

    def states_for(self, ids: torch.Tensor) -> torch.Tensor:
        """What the decoder gives, whatever matrix reads it."""
        return self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def trace(self, root: nn.Module, call: Callable[[], object]) -> dict[nn.Module, Call]:
        """Last calls of all modules under `root`, in the order in which they began first."""
        seen: dict[nn.Module, Call] = {}

        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.setdefault(module, Call(args, kwargs, None))

        def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            seen[module] = Call(args, kwargs, output)

        with ExitStack() as hooks:
            for module in root.modules():
                hooks.enter_context(module.register_forward_pre_hook(enter, with_kwargs=True))
                hooks.enter_context(module.register_forward_hook(leave, with_kwargs=True))
            call()
        return seen

    def entering(self, ids: torch.Tensor) -> torch.Tensor:
        """What the first block is given; nothing behind it is computed."""

        def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            raise _Reached(Call(args, kwargs, None))

        with self.blocks[0].register_forward_pre_hook(stop, with_kwargs=True):
            try:
                self.states_for(ids)
            except _Reached as reached:
                entered = reached.call.first()
        assert entered is not None
        return entered

    def through(self, block: nn.Module, states: torch.Tensor) -> dict[nn.Module, Call]:
        """Calls in a block that is given these states; its own is the last one."""
        args, kwargs = self.calls[block].with_first(states)
        return self.trace(block, lambda: block(*args, **kwargs))

    def weighted(self, block: nn.Module) -> list[nn.Module]:
        """Modules of a block with a matrix of their own."""
        return [m for m in block.modules() if any(p.ndim >= 2 for p in m.parameters(recurse=False))]

    @contextmanager
    def norms_give(self, block: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
        """What the norms of a block give is changed on its way."""
        with ExitStack() as hooks:
            for norm in self.norms.intersection(block.modules()):
                hooks.enter_context(norm.register_forward_hook(lambda _m, _args, output: change(output)))
            yield


def is_norm(module: nn.Module, call: Call) -> bool:
    """Whether what it gives has the shape of what it is given, and is the same for twice as much."""
    if any(module.children()) or any(p.ndim > 1 for p in module.parameters()):
        return False
    given = call.first()
    if given is None or not isinstance(call.output, torch.Tensor) or call.output.shape != given.shape:
        return False
    given = noise_like(given)
    once = again(module, call, given)
    return close(again(module, call, 2 * given), once) and bool(once.any())


def noise_like(tensor: torch.Tensor) -> torch.Tensor:
    """Values of a size at which no norm's epsilon counts; always the same."""
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))


def again(module: nn.Module, call: Call, first: torch.Tensor) -> torch.Tensor:
    """The module's output when the call is made once more with another first tensor."""
    args, kwargs = call.with_first(first)
    return first_of(module(*args, **kwargs))


def first_of(output: Any) -> torch.Tensor:
    """A module's output, or the first of several."""
    return output[0] if isinstance(output, tuple | list) else output


def close(one: torch.Tensor, other: torch.Tensor, tolerance: float = 0.02) -> bool:
    """Whether two tensors differ by a small share of their size only; never where one is no number."""
    return bool((one - other).norm() <= tolerance * torch.maximum(one.norm(), other.norm()))
