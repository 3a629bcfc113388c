"""The configuration of a Llama with ALiBi in place of RoPE; a type of its own, since its logits are no Llama's."""

from typing import Any

from transformers.models.auto.configuration_auto import AutoConfig
from transformers.models.llama.configuration_llama import LlamaConfig

MODEL_TYPE = "talkmill_alibi"


class AlibiConfig(LlamaConfig):
    """The settings of a Llama; those of rotary positions are not used and not written."""

    model_type = MODEL_TYPE

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        import trainer.alibi  # noqa: F401  (registers the model; whoever makes a configuration has loaded what it needs)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        settings: dict[str, Any] = super().to_dict()
        settings.pop("rope_parameters", None)
        return settings


AutoConfig.register(MODEL_TYPE, AlibiConfig)
