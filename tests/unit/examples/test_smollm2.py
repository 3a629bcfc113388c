"""A tiny Llama written as llama.cpp writes it comes back as the model and the tokenizer it was."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from gguf import GGUFWriter, TokenType
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.data.scratch_tokenizer import train_tokenizer
from trainer.structure.inspection import inspect

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
THEIRS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


@pytest.fixture(scope="module")
def smollm2(examples: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("smollm2", examples / "smollm2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return train_tokenizer(iter(["Hello, how are you? I would like 12 tickets.", "我想查一下我的话费"] * 30), 420)


def write_gguf(path: Path, smollm2: ModuleType, chat: ChatTokenizer, **changes: Any) -> LlamaForCausalLM:
    """A random Llama as a GGUF file, rotary halves interleaved as llama.cpp wants them; returns the model."""
    parts = json.loads(chat.tokenizer.to_str())
    special = {token["id"] for token in parts["added_tokens"]}
    tokens = [chat.tokenizer.id_to_token(index) for index in range(chat.vocab_size)]
    facts = {
        "llama.vocab_size": len(tokens), "llama.embedding_length": 48, "llama.feed_forward_length": 96,
        "llama.block_count": 2, "llama.attention.head_count": 6, "llama.attention.head_count_kv": 2,
        "llama.rope.dimension_count": 8, "llama.context_length": 128, "llama.rope.freq_base": 5000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.chat_template": TEMPLATE, **changes,
    }  # fmt: skip
    torch.manual_seed(1)
    model = LlamaForCausalLM(smollm2.make_config(facts))
    for parameter in model.parameters():  # not `.to()`: rotary frequencies stay fp32, as in a model that is loaded
        parameter.data = parameter.data.to(torch.bfloat16)
    writer = GGUFWriter(path, "llama")
    for name, value in facts.items():
        {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)](name, value)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(tokens))])
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in parts["model"]["merges"]]
    )
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(*as_llama_cpp(name, tensor, facts))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def as_llama_cpp(name: str, tensor: torch.Tensor, facts: dict[str, Any]) -> tuple[str, Any]:
    if not name.startswith("model.layers."):
        return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[
            name
        ], tensor.float().numpy()
    _, _, block, ours = name.removesuffix(".weight").split(".", 3)
    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}.get(THEIRS[ours])
    if heads is not None:
        halves = tensor.reshape(facts[heads], 2, -1, tensor.shape[1])
        tensor = torch.stack([halves[:, 0], halves[:, 1]], dim=2).reshape(tensor.shape)
    return f"blk.{block}.{THEIRS[ours]}.weight", tensor.float().numpy()


def test_the_model_comes_back_weight_by_weight(smollm2: ModuleType, chat: ChatTokenizer, tmp_path: Path) -> None:
    original = write_gguf(tmp_path / "tiny.gguf", smollm2, chat)
    smollm2.build(tmp_path / "tiny.gguf", tmp_path / "base")
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    weights = built.state_dict()
    assert weights.keys() == original.state_dict().keys()
    assert [name for name, tensor in original.state_dict().items() if not torch.equal(tensor, weights[name])] == []
    ids = torch.tensor([[5, 9, 14, 33, 7]])
    assert torch.equal(built(ids).logits, original(ids).logits)
    assert [check["ok"] for check in inspect(tmp_path / "base")["architecture"]] == [True] * 7


def test_the_tokenizer_comes_back_with_single_digits(smollm2: ModuleType, chat: ChatTokenizer, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", smollm2, chat)
    smollm2.build(tmp_path / "tiny.gguf", tmp_path / "base")
    built = load_chat_tokenizer(str(tmp_path / "base"))
    assert built.vocab_size == chat.vocab_size
    assert built.template == TEMPLATE
    assert [built.tokenizer.id_to_token(index) for index in built.eos_ids] == ["<|im_end|>"]
    text = "Hello, how are you? 我想 1234 tickets\n\n <|im_end|>"
    assert built.decode(built.encode_content(text)) == text
    assert [built.decode([index]) for index in built.encode_content("1234")] == ["1", "2", "3", "4"]
    words = "Hello, how are you? 我想查一下"
    assert built.encode_content(words) == chat.encode_content(words)


def test_another_structure_or_tokenizer_is_refused(smollm2: ModuleType, chat: ChatTokenizer, tmp_path: Path) -> None:
    write_gguf(tmp_path / "other.gguf", smollm2, chat, **{"tokenizer.ggml.pre": "qwen2"})
    with pytest.raises(smollm2.BaseError, match="gpt2/qwen2"):
        smollm2.build(tmp_path / "other.gguf", tmp_path / "base")
    assert not (tmp_path / "base").exists(), "a base appears whole or not at all"
