"""The model: a base from a local folder, or one from scratch."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel

from trainer.chat_tokenizer import CHATML_TOKENS, ChatTokenizer
from trainer.config import ConfigError, TrainConfig
from trainer.structure.alibi_config import MODEL_TYPE, AlibiConfig
from trainer.structure.attention import choose_attention
from trainer.structure.decoder_blocks import blocks_of

ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu_pytorch_tanh"}


def scratch_structure(config: TrainConfig, chat: ChatTokenizer) -> LlamaConfig:
    """The Llama structure in the sizes asked for; with ALiBi a type of its own."""
    scratch = config.model.scratch
    assert scratch is not None
    sizes = scratch.sizes
    hidden = sizes["hidden_size"]
    ends = list(chat.eos_ids)
    kind = AlibiConfig if scratch.position == "alibi" else LlamaConfig
    return kind(
        vocab_size=chat.vocab_size,
        hidden_size=hidden,
        intermediate_size=-(-hidden * 8 // 3 // 64) * 64,
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        num_key_value_heads=sizes["num_kv_heads"],
        hidden_act=ACTIVATIONS[scratch.activation],
        max_position_embeddings=max(2048, config.row_tokens),
        attention_bias=False,
        mlp_bias=False,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )


def check_base(folder: Path, row_tokens: int = 0) -> None:
    """Refuses a base that is incomplete, wants to run its own code, or knows fewer positions than a row has.

    Raises:
        ConfigError: saying what is wrong.
    """
    structure = _read_object(folder / "config.json")
    if structure is None:
        raise ConfigError(f"model.base: no readable config.json in {folder}")
    tokenizer = _read_object(folder / "tokenizer_config.json") or {}
    if any("auto_map" in part or part.get("trust_remote_code") for part in (structure, tokenizer)):
        raise ConfigError("model.base: the model wants to run code of its own, which is never done")
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(f"model.base: no safetensors in {folder}")
    if structure.get("is_encoder_decoder"):
        raise ConfigError("model.base: the model is no causal decoder")
    if "quantization_config" in structure:
        raise ConfigError("model.base: the weights are quantised, and only full ones can be trained")
    positions = structure.get("max_position_embeddings")
    if isinstance(positions, int) and positions < row_tokens and structure.get("model_type") != MODEL_TYPE:
        raise ConfigError(
            f"data.max_source_length and max_target_length make {row_tokens} tokens, "
            f"the base knows {positions} positions"
        )


def open_base(folder: Path, chat: ChatTokenizer, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A folder's model with all its weights, and room for the marks of ChatML where its tokenizer got those.

    Raises:
        ConfigError: `transformers` cannot open it, or weights are missing.
    """
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError, SafetensorError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ConfigError(f"model.base: transformers cannot open it: {reason}") from None
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(f"model.base: the safetensors lack {len(missing)} of the weights, {missing[0]} first")
    missing = chat.vocab_size - model.get_input_embeddings().num_embeddings
    if missing > (0 if chat.has_own_template else len(CHATML_TOKENS)):
        raise ConfigError(f"model.base: its tokenizer has {chat.vocab_size} ids, {missing} more than the model knows")
    if missing > 0:
        model.resize_token_embeddings(chat.vocab_size)
    try:
        blocks_of(model)
    except ValueError as error:
        raise ConfigError(f"model.base: {error}") from None
    return model


@torch.no_grad()
def keeps_samples_apart(model: PreTrainedModel) -> bool:
    """Whether what a row says first changes nothing for a sample behind it, told apart by positions that restart.

    Raises:
        ConfigError: the decoder takes no positions at all.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    ids, positions = torch.arange(2, 12)[None] % vocabulary, (torch.arange(10) % 5)[None]
    was_training, decoder = model.training, model.get_decoder()
    try:
        decoder.eval()
        packed, alone = (
            decoder(input_ids=ids[:, part], position_ids=positions[:, part], use_cache=False).last_hidden_state
            for part in (slice(0, 10), slice(5, 10))
        )
    except TypeError as error:
        raise ConfigError(f"model.base: its decoder cannot be told positions ({error})") from None
    finally:
        model.train(was_training)
    differs = (packed[:, 5:] - alone).abs().max() > 1e-3 * alone.abs().max()
    return not bool(differs)  # weights that are no numbers say nothing of it: the first step's loss will tell of them


def build(config: TrainConfig, structure: PreTrainedConfig, chat: ChatTokenizer) -> PreTrainedModel:
    """The model in fp32, whatever its file says; new weights, adapters' too, depend on the seed only.

    Raises:
        ConfigError: the base cannot be opened, its rows cannot be packed, or it has no layers that adapters are for.
    """
    torch.manual_seed(config.run.seed)
    if config.model.base is None:
        model = AutoModelForCausalLM.from_config(structure, dtype=torch.float32)
    else:
        model = open_base(Path(config.model.base), chat)
        if config.data.packing and not keeps_samples_apart(model):
            raise ConfigError("data.packing: the base does not keep samples of a row apart: set it to false")
    if config.model.lora is not None:
        from trainer.structure.lora import add_adapters  # peft takes seconds to load

        add_adapters(model, config.model.lora)
    model.config.use_cache = False
    choose_attention(model, config.run)
    return model


def load_structure(config: TrainConfig, chat: ChatTokenizer) -> PreTrainedConfig:
    """The model's configuration, without its weights."""
    if config.model.base is None:
        return scratch_structure(config, chat)
    return AutoConfig.from_pretrained(config.model.base, local_files_only=True, trust_remote_code=False)


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
