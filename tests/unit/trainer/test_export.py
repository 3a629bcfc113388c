"""The exported folder: whole or not there, one model whatever it was trained as."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_base import make_tiny_base
from torch import distributed
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from trainer.appearing import appearing
from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import Lora, parse_config
from trainer.export import export
from trainer.loss import LanguageModelLoss
from trainer.structure.lora import add_adapters
from trainer.structure.model import build, load_structure

IDS = torch.arange(5, 25)[None]
DEEPSEEK = {
    "intermediate_size": 48, "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
SCRATCH = {"preset": "tiny", "hidden_size": 32, "num_layers": 2, "num_heads": 4}


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "clerk")


def built(base: Path, model: dict[str, Any]) -> tuple[LanguageModelLoss, ChatTokenizer]:
    chat = load_chat_tokenizer(str(base))
    config = parse_config({"model": model, "data": {"version": "manifest.json"}})
    return LanguageModelLoss(build(config, load_structure(config, chat), chat)), chat


def untied(base: Path, folder: Path) -> Path:
    """The base with an output matrix of its own, as larger models have it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.5)
    load_chat_tokenizer(str(base)).save(folder)
    model.save_pretrained(folder)
    return folder


def assert_same_model(loss: LanguageModelLoss, folder: Path) -> None:
    """But for what rounding to bf16 does."""
    exported = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    here, there = (model.eval()(IDS).logits for model in (loss.model, exported))
    assert (here - there).norm() < 0.02 * here.norm()


@pytest.mark.parametrize("position", ["rope", "alibi"])
def test_a_model_from_scratch_is_one_file_with_tied_weights_once(position: str, base: Path, tmp_path: Path) -> None:
    loss, chat = built(base, {"scratch": {**SCRATCH, "position": position}})
    export(loss, chat, tmp_path / "model")
    assert_same_model(loss, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert "lm_head.weight" not in weights
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in weights.values()) == sum(p.numel() for p in loss.parameters())


def test_an_output_matrix_of_its_own_is_kept(base: Path, tmp_path: Path) -> None:
    loss, chat = built(base, {"base": str(untied(base, tmp_path / "untied"))})
    export(loss, chat, tmp_path / "model")
    assert_same_model(loss, tmp_path / "model")
    assert "lm_head.weight" in load_file(tmp_path / "model" / "model.safetensors")


def test_the_bases_settings_for_generating_stay_and_the_end_of_turn_is_an_end(base: Path, tmp_path: Path) -> None:
    loss, chat = built(base, {"base": str(base)})
    loss.model.generation_config = GenerationConfig(do_sample=True, top_k=20, repetition_penalty=1.1, eos_token_id=0)
    export(loss, chat, tmp_path / "model")
    settings = GenerationConfig.from_pretrained(tmp_path / "model")
    assert (settings.do_sample, settings.top_k, settings.repetition_penalty) == (True, 20, 1.1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in settings.eos_token_id
    assert end in json.loads((tmp_path / "model" / "config.json").read_text())["eos_token_id"]
    assert tokenizer.chat_template == (base / "chat_template.jinja").read_text()


def test_no_path_of_this_machine_is_in_it(base: Path, tmp_path: Path) -> None:
    loss, chat = built(base, {"base": str(base), "lora": {"rank": 2}})
    export(loss, chat, tmp_path / "model")
    texts = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(texts) >= 4
    assert not [text for text in texts if str(base) in text or str(tmp_path) in text]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_lora_on_a_base_that_got_new_marks_is_merged_and_its_adapter_brings_them(
    tied: bool, base: Path, tmp_path: Path
) -> None:
    """A base of another tokenizer, without a template: its model has no rows for the two marks of ChatML."""
    from peft import PeftModel

    plain = base if tied else untied(base, tmp_path / "untied")
    folder = tmp_path / "plain"
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    model.resize_token_embeddings(load_chat_tokenizer(str(base)).vocab_size - 2)
    model.save_pretrained(folder)
    load_chat_tokenizer(str(base)).save(folder)
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))

    loss, chat = built(folder, {"base": str(folder), "lora": {"rank": 2, "targets": ["q_proj", "down_proj"]}})
    assert not chat.has_own_template
    for name, weight in loss.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    export(loss, chat, tmp_path / "model")
    assert_same_model(loss, tmp_path / "model")

    grown = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    grown.resize_token_embeddings(chat.vocab_size)
    adapted = PeftModel.from_pretrained(grown, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.allclose(adapted(IDS).logits, loss.model.eval()(IDS).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "settings", "num_adapted"),
    [
        ("GPTNeoX", {"intermediate_size": 64}, 2 * 4),  # layers with biases
        ("GPT2", {}, 2 * 4),  # matrices that lie the other way round
        ("Phi3", {"intermediate_size": 64}, 2 * 4),
        (
            "DeepseekV3",
            DEEPSEEK,
            2 * 5,
        ),  # experts are one tensor; peft takes the names of the others' layers for theirs
    ],
)
def test_a_loras_parts_are_one_model_in_every_family(
    family: str, settings: dict[str, Any], num_adapted: int, base: Path, tmp_path: Path
) -> None:
    sizes = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
    structure = getattr(transformers, f"{family}Config")(**sizes, **settings, bos_token_id=None, eos_token_id=2)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(structure, dtype=torch.float32)
    add_adapters(model, Lora(rank=2))
    adapted = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    assert len(adapted) == num_adapted
    assert all(weight.requires_grad == (".lora_" in name) for name, weight in model.named_parameters())
    for weight in adapted:
        torch.nn.init.normal_(weight, std=0.1)
    loss = LanguageModelLoss(model)
    export(loss, load_chat_tokenizer(str(base)), tmp_path / "model")
    assert_same_model(loss, tmp_path / "model")


def test_a_second_folder_has_its_adapter_beside_it_too(base: Path, tmp_path: Path) -> None:
    loss, chat = built(base, {"base": str(base), "lora": {"rank": 2}})
    export(loss, chat, tmp_path / "best")
    assert {path.name for path in tmp_path.iterdir()} == {"best", "best-adapter"}


def test_a_folder_that_could_not_be_filled_is_not_there_and_an_old_one_stays(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), appearing(tmp_path / "model") as folder:
        (folder / "half").write_text("half")
        raise OSError("full")
    assert not (tmp_path / "model").exists()
    for text in ("one", "two"):
        with appearing(tmp_path / "model") as folder:
            (folder / "whole").write_text(text)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert (tmp_path / "model" / "whole").read_text() == text
    with pytest.raises(OSError, match="full"), appearing(tmp_path / "model") as folder:
        raise OSError("full")
    assert (tmp_path / "model" / "whole").read_text() == "two"


def test_a_process_killed_at_any_moment_leaves_no_half_of_it(tmp_path: Path) -> None:
    """Killed at each call that touches the disk, one after the other; the next export goes on as if nothing were."""
    program = (
        "import os, signal, sys, pathlib\n"
        "from trainer.appearing import appearing\n"
        "left = int(sys.argv[2])\n"
        "def tick(event, args):\n"
        "    global left\n"
        "    if event in ('os.rename', 'os.mkdir', 'os.rmdir', 'os.remove', 'open', 'shutil.rmtree'):\n"
        "        if sys.argv[1] in str(args):\n"
        "            left -= 1\n"
        "            if left < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(tick)\n"
        "with appearing(pathlib.Path(sys.argv[1]) / 'model') as folder:\n"
        "    for name in 'ab': (folder / name).write_text('new')\n"
    )
    with appearing(tmp_path / "model") as folder:
        for name in "ab":
            (folder / name).write_text("old")
    outcomes = set()
    for moment in range(24):
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(moment)], check=False)
        assert done.returncode in (0, -signal.SIGKILL)
        texts = [(tmp_path / "model" / name).read_text() for name in "ab"] if (tmp_path / "model").exists() else None
        assert texts in (None, ["old", "old"], ["new", "new"])
        outcomes.add(done.returncode)
    assert outcomes == {0, -signal.SIGKILL}
