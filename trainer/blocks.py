"""What is done to a decoder's blocks before they are sharded: activations computed twice, code compiled.

Both replace a block's `forward` and nothing else, so names of weights stay as they are, and both are for training
alone: an evaluation runs the code as it stands.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.utils.checkpoint import checkpoint

from trainer.loss import LOSS_CHUNK, LanguageModelLoss
from trainer.parallel import sum_over_ranks
from trainer.structure.decoder_blocks import blocks_of

if TYPE_CHECKING:  # the benchmark of a GPU runs without pydantic
    from trainer.config import TrainConfig

FP32_BYTES = 4
STATE_BYTES = 4 * FP32_BYTES
"""Of a trained number: weight, gradient and AdamW's two moments."""
SHARE_OF_CARD = 0.85
"""The rest is for what is gathered for one block, for the allocator's gaps, and for the driver."""

Forward = Callable[..., Any]


def prepare_blocks(
    model: LanguageModelLoss, config: "TrainConfig", device: torch.device, micro_tokens: int
) -> dict[str, Any]:
    """Does what `run.activation_checkpointing` and `run.compile` say, on all ranks alike; returns what was done."""
    twice = config.run.activation_checkpointing
    if twice == "auto":
        twice = device.type == "cuda" and not _fits(model, config, device, micro_tokens)
    compiled = device.type == "cuda" if config.run.compile == "auto" else config.run.compile
    reason = _why_nothing_compiles(device) if compiled else None
    compiled = compiled and sum_over_ranks(float(reason is not None)) == [0.0]
    for block in blocks_of(model.model):
        _prepare(block, twice, compiled)
    done: dict[str, Any] = {"activation_checkpointing": twice, "compile": compiled}
    return done if reason is None else {**done, "not_compiled_because": reason}


def memory_bytes(
    *, num_weights: int, num_trained: int, world: int, micro_tokens: int, num_layers: int, hidden: int,
    intermediate: int, vocab: int, dtype_bytes: int,
) -> int:  # fmt: skip
    """What a rank needs for a step that keeps all activations: an estimate, on the high side.

    A block keeps, for each token, about twelve vectors of its width (input of both norms, in fp32 too; queries, keys,
    values, attention's output, both residuals) and four of its inner width (gate, up, activation, product); attention
    itself keeps nothing that grows with the square of the length. Logits exist for a chunk of tokens, in fp32, three
    times: as they are, as probabilities, as gradients.
    """
    state = (num_weights * FP32_BYTES + num_trained * (STATE_BYTES - FP32_BYTES)) // world
    kept = micro_tokens * num_layers * (12 * hidden + 4 * intermediate) * dtype_bytes
    logits = 3 * min(LOSS_CHUNK, micro_tokens) * vocab * FP32_BYTES
    return state + kept + logits


def _fits(model: LanguageModelLoss, config: "TrainConfig", device: torch.device, micro_tokens: int) -> bool:
    structure = model.model.config.get_text_config()
    weights = list(model.parameters())
    needed = memory_bytes(
        num_weights=sum(weight.numel() for weight in weights),
        num_trained=sum(weight.numel() for weight in weights if weight.requires_grad),
        world=distributed.get_world_size(),
        micro_tokens=micro_tokens,
        num_layers=len(blocks_of(model.model)),
        hidden=structure.hidden_size,
        intermediate=getattr(structure, "intermediate_size", None) or 4 * structure.hidden_size,
        vocab=structure.vocab_size,
        dtype_bytes=FP32_BYTES if config.run.precision == "fp32" else 2,
    )
    return needed < SHARE_OF_CARD * torch.cuda.get_device_properties(device).total_memory


def _prepare(block: nn.Module, twice: bool, compiled: bool) -> None:
    plain = block.forward
    trained = _computed_twice(plain) if twice else plain
    trained = torch.compile(trained) if compiled else trained

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (trained if block.training else plain)(*args, **kwargs)

    if twice or compiled:
        block.forward = forward


def _computed_twice(forward: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


def _why_nothing_compiles(device: torch.device) -> str | None:
    """What goes wrong with a trifle; None where it compiles. What is missing is a compiler, a header, a driver."""
    if device.type == "cpu":
        torch._inductor.config.compile_threads = 1  # no pool of processes beside the ranks
    try:
        torch.compile(lambda tensor: tensor.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001 - whatever it is, code runs uncompiled
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return None
