"""A Llama that knows the order of tokens by ALiBi: attention falls with distance, by a slope of its own in each head.

Press, Smith and Lewis 2022, "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation".
The bias is part of the attention mask, so every attention of `transformers` that takes a mask computes it.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, Cache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaModel,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
)

from trainer.structure.alibi_config import AlibiConfig


def slopes_of(num_heads: int) -> list[float]:
    """Each head's slope: a geometric sequence; heads beyond a power of two take every other one of the next power's."""
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * head / power) for head in range(1, power + 1)]
    between = [2 ** (-4 * head / power) for head in range(1, 2 * power, 2)]
    return slopes + between[: num_heads - power]


class _NoRotation(nn.Module):
    """What stands in for rotary positions: queries and keys stay as they are."""

    def forward(self, states_BTD: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        one = states_BTD.new_ones(1, 1, 1)
        return one, torch.zeros_like(one)


class AlibiModel(LlamaModel):
    """The decoder."""

    config_class = AlibiConfig
    config: AlibiConfig
    _supports_flash_attn = False
    _supports_flex_attn = False

    def __init__(self, config: AlibiConfig) -> None:
        super(LlamaModel, self).__init__(config)  # a Llama's own would ask for settings of rotary positions
        self.padding_idx, self.vocab_size = config.pad_token_id, config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(LlamaDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = _NoRotation()
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """As a Llama's; with `position_ids` that restart and no mask, samples of a row do not see each other."""
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        visible = create_causal_mask(
            self.config, inputs_embeds, attention_mask, past_key_values, position_ids, allow_is_causal_skip=False
        )
        mask_BHQK = self._biased(visible, seen, inputs_embeds)
        return super().forward(
            None, mask_BHQK, position_ids, past_key_values, inputs_embeds=inputs_embeds, use_cache=use_cache, **kwargs
        )

    def _biased(self, visible: torch.Tensor, seen: int, states: torch.Tensor) -> torch.Tensor:
        """The mask with what each head takes off for distance.

        Places stand for positions: within a sample they differ by as much, and others are not visible.
        """
        asking_Q, asked_K = (torch.arange(size, device=states.device) for size in visible.shape[-2:])
        distance_QK = asking_Q[:, None] + seen - asked_K[None, :]
        slopes_H = torch.tensor(slopes_of(self.config.num_attention_heads), device=states.device)
        bias_HQK = (-slopes_H[:, None, None] * distance_QK).to(states.dtype)
        if visible.dtype == torch.bool:
            return torch.where(visible, bias_HQK, torch.finfo(states.dtype).min)
        return torch.where(visible < 0, visible, bias_HQK)  # the eager attention's: 0 or the least number


class AlibiForCausalLM(LlamaForCausalLM):
    """The decoder and its output matrix."""

    config_class = AlibiConfig
    config: AlibiConfig
    _supports_flash_attn = False
    _supports_flex_attn = False

    def __init__(self, config: AlibiConfig) -> None:
        super(LlamaForCausalLM, self).__init__(config)
        self.vocab_size = config.vocab_size
        self.model = AlibiModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class AlibiForSequenceClassification(GenericForSequenceClassification, LlamaPreTrainedModel):
    """The decoder under a layer of scores, as a reward model has it."""

    config_class = AlibiConfig
    config: AlibiConfig
    _supports_flash_attn = False
    _supports_flex_attn = False


AutoModel.register(AlibiConfig, AlibiModel)
AutoModelForCausalLM.register(AlibiConfig, AlibiForCausalLM)
AutoModelForSequenceClassification.register(AlibiConfig, AlibiForSequenceClassification)
