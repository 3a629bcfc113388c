"""Greedy replies of the model as it is being trained, sharded over the ranks: each generates its share.

Prompts of like length stand together in batches, padded on the left. All ranks make the same number of forward passes,
since each may gather the weights of all.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import distributed
from torch.distributed.fsdp import FSDPModule
from transformers import DynamicCache

from trainer.loss import LanguageModelLoss
from trainer.parallel import sum_over_ranks

CACHE_BYTES = 2**31
"""Of the keys and values of a batch."""
MAX_BATCH_ROWS = 64


@torch.no_grad()
def generate(
    model: LanguageModelLoss, prompts: Sequence[Sequence[int]], *, ends: Sequence[int], max_new_tokens: int
) -> dict[int, list[int]]:
    """Token ids of this rank's share of the replies, by their prompt's place; the token that ends one is not in it.

    All ranks are given the same prompts.
    """
    rank, world = distributed.get_rank(), distributed.get_world_size()
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    most = -(-len(order) // world)
    longest = max(map(len, prompts), default=0) + max_new_tokens
    num_rows = max(1, min(MAX_BATCH_ROWS, CACHE_BYTES // (_cache_bytes_a_token(model) * longest)))
    mine = order[rank::world]
    replies: dict[int, list[int]] = {}
    was_training = model.training
    model.eval()
    with _whole_weights(model), torch.compiler.set_stance("force_eager"):
        for start in range(0, most, num_rows):
            places = mine[start : start + num_rows]
            given = [prompts[place] for place in places] or [[ends[0]]]  # a rank without prompts goes along
            replies.update(zip(places, _batch(model, given, set(ends), max_new_tokens), strict=False))
    model.train(was_training)
    return replies


def _batch(
    model: LanguageModelLoss, prompts: Sequence[Sequence[int]], ends: set[int], max_new_tokens: int
) -> list[list[int]]:
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    ids_BT = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
    mask_BT = (torch.arange(width, device=device) >= width - lengths_B[:, None]).long()
    positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.model.config)
    replies: list[list[int]] = [[] for _ in prompts]
    unfinished = set(range(len(prompts)))
    for _ in range(max_new_tokens):
        next_B = model.next_logits(ids_BT, positions_BT, mask_BT, cache).argmax(1)
        for row, token in enumerate(next_B.tolist()):
            if token in ends:
                unfinished.discard(row)
            elif row in unfinished:
                replies[row].append(token)
        if sum_over_ranks(len(unfinished)) == [0.0]:
            break
        ids_BT, positions_BT = next_B[:, None], positions_BT[:, -1:] + 1
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(prompts), 1)], 1)
    return replies


@contextmanager
def _whole_weights(model: LanguageModelLoss) -> Iterator[None]:
    """Keeps gathered weights from one token to the next where there is room for them, on every rank."""
    blocks = [module for module in model.modules() if isinstance(module, FSDPModule) and module is not model]
    if not blocks or not _fits(model):
        yield
        return
    for block in blocks:
        block.set_reshard_after_forward(False)
    yield
    for block in blocks:
        block.set_reshard_after_forward(True)
        block.reshard()


def _fits(model: LanguageModelLoss) -> bool:
    device = next(model.parameters()).device
    if device.type != "cuda":
        return True
    wanted = 2 * sum(parameter.numel() for parameter in model.parameters())
    return sum_over_ranks(float(torch.cuda.mem_get_info(device)[0] < 2 * wanted)) == [0.0]


def _cache_bytes_a_token(model: LanguageModelLoss) -> int:
    """Keys and values of one token in all layers, in 16 bits."""
    config = model.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * 2 * int(config.num_hidden_layers) * int(heads) * int(size)
