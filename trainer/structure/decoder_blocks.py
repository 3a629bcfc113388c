"""Where a model's blocks are."""

from torch import nn
from transformers import PreTrainedModel


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder's blocks, in order.

    Raises:
        ValueError: the model has no list of blocks.
    """
    lists = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) > 0]
    if not lists:
        raise ValueError("the model has no list of decoder blocks")
    return max(lists, key=lambda blocks: sum(p.numel() for block in blocks for p in block.parameters()))
