"""`architecture.json` of tiny models of many families, made from their configurations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from trainer.records import read_lines
from trainer.structure.architecture import CHECKS, USUAL, describe, report
from trainer.structure.decoder_blocks import blocks_of

SIZES = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
SIZES |= {"bos_token_id": 1, "eos_token_id": 2}
DENSE = {**SIZES, "intermediate_size": 48, "max_position_embeddings": 64}
GROUPED = {**DENSE, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
DEEPSEEK = {**DENSE, **EXPERTS, **LATENT, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}
OPT = {**SIZES, "ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32}

ALL = frozenset(CHECKS)
FAMILIES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("Llama", GROUPED, set()),
    ("Qwen2", GROUPED, {"no_bias"}),
    ("Qwen3", HEADS, set()),
    ("Mistral", GROUPED, set()),
    ("Gemma2", HEADS, set()),
    ("Gemma3Text", HEADS, set()),
    ("Phi3", GROUPED, set()),
    ("SmolLM3", {**GROUPED, "num_hidden_layers": 4}, set()),
    ("Mixtral", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}, set()),
    ("DeepseekV2", {**DEEPSEEK, "num_key_value_heads": 4}, set()),
    ("DeepseekV3", {**DEEPSEEK, "num_key_value_heads": 4}, set()),
    ("Olmo", DENSE, {"rms_norm"}),
    ("Olmo2", GROUPED, {"pre_norm"}),
    ("GPT2", SIZES, {"rms_norm", "gated_activation", "rope_or_alibi", "no_bias"}),
    ("GPTNeoX", DENSE, {"rms_norm", "gated_activation", "no_bias"}),
    ("Bloom", SIZES, {"rms_norm", "gated_activation", "no_embedding_norm", "no_bias"}),
    ("Mpt", {"vocab_size": 96, "d_model": 32, "n_layers": 2, "n_heads": 4}, {"rms_norm", "gated_activation"}),
    ("OPT", OPT, {"rms_norm", "gated_activation", "rope_or_alibi", "no_bias"}),
    (
        "OPT",
        {**OPT, "do_layer_norm_before": False},
        {"pre_norm", "rms_norm", "gated_activation", "rope_or_alibi", "no_bias"},
    ),
    ("Falcon", SIZES, {"rms_norm", "gated_activation", "no_bias"}),
    ("Falcon", {**SIZES, "alibi": True}, {"rms_norm", "gated_activation", "no_bias"}),
    ("Nemotron", GROUPED, {"rms_norm", "gated_activation", "no_bias"}),
    (
        "Mamba",
        {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        {"rope_or_alibi", "no_bias"},
    ),
    ("Bert", DENSE, set(ALL)),
]


def made(family: str, settings: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    configuration: Callable[..., PreTrainedConfig] = getattr(transformers, f"{family}Config")
    return AutoModelForCausalLM.from_config(configuration(**settings), dtype=torch.float32)


@pytest.mark.parametrize(("family", "settings", "departures"), FAMILIES)
def test_every_family_is_described_by_what_it_does(family: str, settings: dict[str, Any], departures: set[str]) -> None:
    model = made(family, settings)
    checks = describe(model)
    assert [check["name"] for check in checks] == list(CHECKS)
    assert {check["name"] for check in checks if not check["ok"]} == departures, checks
    assert not [check for check in checks if "not known" in check["found"]]
    unusual = departures - USUAL.get(model.config.model_type, set())
    assert unusual == ({"pre_norm"} if settings.get("do_layer_norm_before") is False else set()) or family == "Bert"


def test_no_name_is_needed() -> None:
    """The same modules under names that say nothing."""
    model = made("Llama", GROUPED)
    block = blocks_of(model)[0]
    for module in model.modules():
        if "Norm" in type(module).__name__ or "Rotary" in type(module).__name__:
            module.__class__ = type("Thing", (type(module),), {})
    assert block.input_layernorm.__class__.__name__ == "Thing"
    assert {check["name"]: check["ok"] for check in describe(model)} == dict.fromkeys(CHECKS, True)


def test_the_model_is_left_as_it_was() -> None:
    model = made("Qwen2", GROUPED).train()
    torch.manual_seed(5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.randn(3)
    torch.manual_seed(5)
    describe(model)
    assert torch.equal(torch.randn(3), drawn), "a run with dropout is the same, described or not"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_departures_are_warnings_and_usual_ones_are_named_so(tmp_path: Path) -> None:
    report(tmp_path, made("Qwen2", GROUPED))
    report(tmp_path, made("Qwen2", GROUPED))  # a run that goes on says it once
    (warning,) = read_lines(tmp_path / "events.jsonl")
    assert warning["level"] == "warning"
    assert "biases of query, key and value, usual in the family qwen2" in warning["message"]


def test_a_departure_that_is_not_usual_is_not_called_so(tmp_path: Path) -> None:
    report(tmp_path, made("Llama", {**GROUPED, "mlp_bias": True}))
    (warning,) = read_lines(tmp_path / "events.jsonl")
    assert "no_bias" in warning["message"]
    assert "usual" not in warning["message"]
