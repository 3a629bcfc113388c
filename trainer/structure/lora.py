"""LoRA: low-rank adapters beside a base's linear layers, learned while the base stays as it is; peft's layers, files.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". A layer gives W x + alpha / rank · B A x, where B
begins as nothing.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainer.config import ConfigError, Lora

ADAPTER = "default"
BASE, DOWN, UP = ".base_layer.weight", f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight"
WEIGHTS = "adapter_model.safetensors"

State = Mapping[str, torch.Tensor]


def add_adapters(model: PreTrainedModel, lora: Lora) -> None:
    """Puts adapters into the model, in the base's dtype, and freezes everything else.

    Raises:
        ConfigError: a name in `targets` is no linear layer's, or is the output matrix's.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha == "auto" else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)


def merge(model: PreTrainedModel, state: State) -> dict[str, torch.Tensor]:
    """The base's weights with what the adapters add, under the base's own names."""
    config, layers = model.peft_config[ADAPTER], dict(model.named_modules())
    merged = {}
    for name, tensor in state.items():
        if name.endswith(BASE):
            layer = name.removesuffix(BASE)
            added = state[layer + UP].float() @ state[layer + DOWN].float()
            if isinstance(layers[f"{layer}.base_layer"], Conv1D):  # of GPT-2, whose matrices lie the other way round
                added = added.T
            merged[f"{layer}.weight"] = tensor + (config.lora_alpha / config.r * added).to(tensor.dtype)
        elif not name.endswith((DOWN, UP)):
            merged[name.replace(".base_layer.", ".")] = tensor
    return merged


def save_adapter(model: PreTrainedModel, state: State, folder: Path, *, with_embeddings: bool) -> None:
    """Writes what `PeftModel.from_pretrained` opens on top of the base; embeddings too where the base's have grown."""
    names = {name for name in state if name.endswith((DOWN, UP))}
    if with_embeddings:
        matrices = {
            id(module.weight): module for module in (model.get_output_embeddings(), model.get_input_embeddings())
        }
        names |= {f"{name}.weight" for name, module in model.named_modules() if module in matrices.values()}
    weights = {f"base_model.model.{n.replace(f'.{ADAPTER}.', '.')}": state[n].contiguous() for n in sorted(names)}
    config = copy.copy(model.peft_config[ADAPTER])
    config.base_model_name_or_path = None  # a folder of the machine that trained is of no use elsewhere
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(folder)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _targets(model: PreTrainedModel, lora: Lora) -> list[str]:
    """Last names of the layers to adapt, all of which exist."""
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not model.get_output_embeddings()
    }
    linear = {name for name in linear if not _means_experts(model, name)}
    if not linear:
        raise ConfigError("model.lora: the base has no linear layers to put adapters beside")
    wanted = linear if lora.targets == "all-linear" else set(lora.targets)
    if unknown := sorted(wanted - linear):
        raise ConfigError(f"model.lora.targets: no linear layer is called {unknown[0]}; there are {_listed(linear)}")
    return sorted(wanted)


def _means_experts(model: PreTrainedModel, name: str) -> bool:
    """Whether peft takes a name for that of the matrices of all experts, which are one tensor and no layer."""
    config = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:  # for the name of one half of such a tensor
        return True
    return name not in config.target_modules


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
