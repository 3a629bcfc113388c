"""The model folder: what `transformers` opens."""

import shutil
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoModelForCausalLM, GenerationConfig

from trainer.chat_tokenizer import ChatTokenizer
from trainer.loss import LanguageModelLoss

PREFIX = "model."


def export(model: LanguageModelLoss, chat: ChatTokenizer, folder: Path) -> None:
    """Gathers the weights of all ranks and writes bf16 safetensors, config, tokenizer and generation config."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)
    if distributed.get_rank() == 0:
        weights = {name.removeprefix(PREFIX): tensor.to(torch.bfloat16) for name, tensor in state.items()}
        temporary = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        structure = model.model.config
        with torch.device("meta"):
            whole = AutoModelForCausalLM.from_config(structure, dtype=torch.bfloat16)
        whole.load_state_dict(weights, assign=True)
        whole.tie_weights()
        whole.config.use_cache = True
        ends = list(chat.eos_ids)
        whole.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[0])
        whole.config.eos_token_id = ends
        whole.save_pretrained(temporary)
        chat.save(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    distributed.barrier()
