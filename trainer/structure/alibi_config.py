"""The configuration of a Llama with ALiBi in place of RoPE; a type of its own, since its logits are no Llama's.

It is loaded while `transformers` itself is being loaded, so it asks for no more of it than what is there by then.
"""

from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.configuration_auto import AutoConfig

MODEL_TYPE = "talkmill_alibi"


class AlibiConfig(PreTrainedConfig):
    """The settings of a Llama but for those of rotary positions."""

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ("past_key_values",)

    vocab_size: int = 32_000
    hidden_size: int = 512
    intermediate_size: int = 1408
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int = 8
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    """Of the rows that it was trained on; longer ones are no error."""
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)
        import trainer.structure.alibi  # noqa: F401  (registers the model: by now all is loaded)


AutoConfig.register(MODEL_TYPE, AlibiConfig)
