"""The loss of a causal language model, without whole logits."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel

from trainer.structure.attention import bounds_of

LOSS_CHUNK = 1024
"""Target tokens whose logits exist at once."""
TARGETS_MULTIPLE = 128
"""Target tokens are filled up to so many: libraries keep code for each shape that they meet, on a CPU 300 MB of it."""


class LanguageModelLoss(nn.Module):
    """A causal language model that answers with its rows' losses.

    The whole is one module, so that a sharded output matrix is there when the loss is computed, inside `forward`.
    """

    other_forwards: tuple[str, ...] = ("next_logits",)
    """Methods beside `forward` that use the weights."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        ids_BT: torch.Tensor,
        positions_BT: torch.Tensor,
        labels_BT: torch.Tensor,
        *,
        num_targets: int | None = None,
        num_samples: int | None = None,
        by_sample: bool = False,
    ) -> torch.Tensor:
        """Each row's sum of its target tokens' cross-entropies, fp32, of shape B.

        B rows, T tokens a row. Position ids restart at each sample; labels of -100 are not learned. No attention mask:
        packed samples are told apart by their positions. Who says `num_targets`, of labels that are learned, and
        `num_samples`, of positions that are 0, spares a GPU the wait until they are counted. `by_sample` sums by
        sample, row after row, where a position of 0 begins one; what pads a row is one more.
        """
        decoder = self.model.get_decoder()
        bounds = bounds_of(self.model, positions_BT, num_samples)
        hidden_BTD = decoder(input_ids=ids_BT, position_ids=positions_BT, use_cache=False, **bounds).last_hidden_state
        is_target_T = labels_BT.flatten() != -100
        if num_targets is None:
            num_targets = int(is_target_T.sum())
        num_filled = -(-num_targets // TARGETS_MULTIPLE) * TARGETS_MULTIPLE
        place_N = is_target_T.nonzero_static(size=num_filled, fill_value=0)[:, 0]
        is_filling_N = torch.arange(num_filled, device=place_N.device) >= num_targets
        labels_N = labels_BT.flatten()[place_N].masked_fill(is_filling_N, -100)
        hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, place_N)
        weight_VD = self.model.get_output_embeddings().weight
        # A rank without targets has a gradient for every weight too: all ranks reduce the same ones.
        losses_B = hidden_BTD[:, 0, 0].float() * 0.0 + weight_VD[0, 0].float() * 0.0
        row_N = place_N // labels_BT.shape[1]
        if by_sample:
            sample_T = (positions_BT == 0).flatten().cumsum(0) - 1
            row_N, losses_B = sample_T[place_N], losses_B.new_zeros(int(sample_T[-1]) + 1)
        for start in range(0, labels_N.shape[0], LOSS_CHUNK):
            part = slice(start, start + LOSS_CHUNK)
            losses_N = checkpoint(_losses_of_chunk, hidden_ND[part], weight_VD, labels_N[part], use_reentrant=False)
            losses_B = losses_B.index_add(0, row_N[part], losses_N)
        return losses_B

    def next_logits(
        self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, mask_BT: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        """Logits of the token behind each row, of shape B x V; `mask_BT` covers what the cache holds as well."""
        output = self.model(
            input_ids=ids_BT, position_ids=positions_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        return output.logits[:, -1]


def _losses_of_chunk(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    logits_NV = functional.linear(hidden_ND, weight_VD.to(hidden_ND.dtype)).float()
    return functional.cross_entropy(logits_NV, labels_N, reduction="none")
