"""What is taken as a base and what is refused, on folders as `transformers` saves them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_base import make_tiny_base
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    FalconConfig,
    LlamaConfig,
    PreTrainedModel,
    Qwen2Config,
    T5Config,
    T5ForConditionalGeneration,
)

from app.training.bases import BaseError, files_of
from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.config import ConfigError, TrainConfig, parse_config
from trainer.structure.inspection import inspect
from trainer.structure.model import build, check_base, keeps_samples_apart, load_structure

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": None, "pad_token_id": 0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A base whose model is yet to be written over."""
    return Path(shutil.copytree(tiny, tmp_path / "base"))


def saved(folder: Path, model: PreTrainedModel, **options: Any) -> Path:
    for old in [*folder.glob("*.safetensors"), folder / "config.json"]:
        old.unlink()
    model.to(torch.bfloat16).save_pretrained(folder, **options)
    return folder


def sizes(folder: Path) -> dict[str, Any]:
    return {"vocab_size": load_chat_tokenizer(str(folder)).vocab_size, **SIZES}


def config_for(folder: Path, **data: Any) -> TrainConfig:
    return parse_config({"model": {"base": str(folder)}, "data": {"version": "manifest.json", **data}})


def built(config: TrainConfig, folder: Path) -> PreTrainedModel:
    chat = load_chat_tokenizer(str(folder))
    return build(config, load_structure(config, chat), chat)


def test_a_qwen2_is_taken_and_its_biases_are_told(folder: Path) -> None:
    structure = Qwen2Config(**sizes(folder), num_key_value_heads=2, intermediate_size=64)
    facts = inspect(saved(folder, AutoModelForCausalLM.from_config(structure)))
    assert facts["class"] == "Qwen2ForCausalLM"
    assert facts["packing"]
    departures = [check for check in facts["architecture"] if not check["ok"]]
    assert departures == [{"name": "no_bias", "ok": False, "found": "biases of query, key and value"}]


def test_a_base_in_several_files_is_taken_whole_and_half_of_it_is_refused(folder: Path) -> None:
    structure = LlamaConfig(**sizes(folder), num_key_value_heads=2, intermediate_size=64)
    saved(folder, AutoModelForCausalLM.from_config(structure), max_shard_size="40KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    assert inspect(folder)["parameters"] > 0
    parts[-1].unlink()
    with pytest.raises(ConfigError, match="cannot open it"):
        inspect(folder)


def test_a_file_that_was_cut_off_while_it_was_copied_is_refused(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot open it"):
        inspect(folder)


def test_an_encoder_with_a_decoder_is_refused(folder: Path) -> None:
    structure = T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    with pytest.raises(ConfigError, match="the model is no causal decoder"):
        check_base(saved(folder, T5ForConditionalGeneration(structure)))


def test_a_model_that_sees_what_comes_later_is_refused(folder: Path) -> None:
    model = BertLMHeadModel(BertConfig(**sizes(folder), intermediate_size=64))
    with pytest.raises(ConfigError, match=r"no causal decoder \(BertLMHeadModel: a later token changes what is"):
        inspect(saved(folder, model))


def test_a_file_in_a_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BaseError, match=r"model.safetensors is no folder"):
        files_of(tmp_path / "model.safetensors")


def test_ids_that_the_model_does_not_know_are_refused_before_a_run_fails_on_one(folder: Path) -> None:
    structure = LlamaConfig(**{**sizes(folder), "vocab_size": 200}, num_key_value_heads=2, intermediate_size=64)
    saved(folder, AutoModelForCausalLM.from_config(structure))
    vocabulary = load_chat_tokenizer(str(folder)).vocab_size
    with pytest.raises(ConfigError, match=f"tokenizer has {vocabulary} ids, {vocabulary - 200} more than the model"):
        built(config_for(folder), folder)


def test_a_base_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no readable config.json"):
        check_base(tmp_path / "nowhere")


def test_a_base_that_would_mix_packed_samples_is_taken_one_sample_a_row_only(folder: Path) -> None:
    structure = FalconConfig(**sizes(folder), new_decoder_architecture=False)
    saved(folder, AutoModelForCausalLM.from_config(structure))
    assert not inspect(folder)["packing"]
    with pytest.raises(ConfigError, match=r"data.packing: the base does not keep samples of a row apart"):
        built(config_for(folder), folder)
    assert built(config_for(folder, packing=False), folder).config.model_type == "falcon"


def test_positions_that_restart_keep_samples_apart(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).train()
    assert keeps_samples_apart(model)
    assert model.training


def test_longer_rows_are_no_error_where_positions_have_no_end(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    settings = {"model_type": "talkmill_alibi", "max_position_embeddings": 2048}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    check_base(tmp_path, 4096)
    (tmp_path / "config.json").write_text(json.dumps({**settings, "model_type": "llama"}))
    with pytest.raises(ConfigError, match="make 4096 tokens, the base knows 2048 positions"):
        check_base(tmp_path, 4096)


def test_rope_wants_heads_of_an_even_width_and_alibi_does_not() -> None:
    odd = {"hidden_size": 40, "num_heads": 8, "num_kv_heads": 2}
    with pytest.raises(ConfigError, match="even multiple of num_heads"):
        parse_config({"model": {"scratch": odd}, "data": {"version": "m"}})
    parse_config({"model": {"scratch": {**odd, "position": "alibi"}}, "data": {"version": "m"}})
