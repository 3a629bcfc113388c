"""The model folder, what `transformers` opens: always whole or not there, a LoRA's merged, its adapter beside it."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from trainer.appearing import appearing
from trainer.chat_tokenizer import ChatTokenizer
from trainer.loss import LanguageModelLoss

PREFIX = "model."


def export(model: LanguageModelLoss, chat: ChatTokenizer, folder: Path) -> None:
    """Gathers the weights of all ranks and writes bf16 safetensors, config, tokenizer and generation config.

    Of a LoRA it writes the merged model, and its adapter under `adapter/` beside `folder`, or `NAME-adapter/` beside
    a folder of another name than `model`.
    """
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if distributed.get_rank() == 0:
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
        if hasattr(model.model, "peft_config"):
            from trainer.structure.lora import merge, save_adapter  # peft takes seconds to load

            beside = folder.with_name("adapter" if folder.name == "model" else f"{folder.name}-adapter")
            with appearing(beside) as temporary:
                save_adapter(model.model, weights, temporary, with_embeddings=not chat.has_own_template)
            weights = merge(model.model, weights)
        with appearing(folder) as temporary:
            _save_model(model.model, weights, chat, temporary)
    distributed.barrier()


def _save_model(
    trained: PreTrainedModel, weights: Mapping[str, torch.Tensor], chat: ChatTokenizer, folder: Path
) -> None:
    structure, ends = copy.deepcopy(trained.config), list(chat.eos_ids)
    structure.use_cache, structure.eos_token_id = True, ends
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(structure, dtype=torch.bfloat16)
    learned = dict(whole.named_parameters(remove_duplicate=False))
    rounded = {name: tensor.to(torch.bfloat16) if name in learned else tensor for name, tensor in weights.items()}
    whole.load_state_dict(rounded, assign=True)
    whole.tie_weights()
    whole.generation_config = _generation(trained, ends)
    whole.save_pretrained(folder)
    chat.save(folder)


def _generation(trained: PreTrainedModel, ends: list[int]) -> GenerationConfig:
    """The base's settings for generating, where they make sense, with the token that ends a turn among the ends."""
    settings = copy.deepcopy(trained.generation_config)
    settings.eos_token_id = ends
    settings.use_cache = True
    settings.pad_token_id = ends[0] if settings.pad_token_id is None else settings.pad_token_id
    try:
        settings.validate(strict=True)
    except ValueError:
        return GenerationConfig(eos_token_id=ends, pad_token_id=settings.pad_token_id)
    return settings
