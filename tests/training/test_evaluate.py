"""What two ranks find on the held-out conversations is what one process finds, conversation by conversation."""

import json
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tiny_base import make_tiny_base

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.data.version import Conversation, open_version
from trainer.dialogues import Lengths, encode_window, make_windows, truncate_prompt

SOURCE, TARGET, SAMPLES, NEW_TOKENS = 120, 48, 12, 16
STEPS = 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    folder = tmp_path_factory.mktemp("version")
    curate([examples / "dialogues.jsonl"], folder, recipe=parse_recipe(None), as_of=date(2026, 11, 1))
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, manifest: Path) -> Path:
    """Two ranks in fp32 from a base whose random weights are large, so that it says something else each time."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("evaluated")
    base = make_tiny_base(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.mul_(1 if "norm" in name else 12)
    model.save_pretrained(base)
    config = {
        "model": {"base": str(base)},
        "data": {"version": str(manifest), "max_source_length": SOURCE, "max_target_length": TARGET},
        "batch": {"tokens": 1344},
        "optim": {"peak_lr": 1e-4},
        "run": {"max_steps": STEPS, "nproc": 2, "precision": "fp32"},
        "checkpoint": {"every_steps": 2},
        "evaluate": {"bleu_samples": SAMPLES, "max_new_tokens": NEW_TOKENS, "bleu_every_steps": 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "run"


@pytest.fixture(scope="module")
def chat(run: Path) -> ChatTokenizer:
    return load_chat_tokenizer(str(run / "tokenizer"))


@pytest.fixture(scope="module")
def said(manifest: Path) -> dict[str, Conversation]:
    return {row.id: row for row in open_version(str(manifest)).conversations()}


@pytest.fixture(scope="module")
def trained(run: Path, chat: ChatTokenizer) -> Any:
    """The last checkpoint's model, whole, in one process, in fp32."""
    from trainer.checkpoint import load_weights
    from trainer.config import load_config
    from trainer.loss import LanguageModelLoss
    from trainer.structure.model import build, load_structure

    config = load_config(run / "config.json")
    model = LanguageModelLoss(build(config, load_structure(config, chat), chat))
    with pytest.warns(UserWarning, match="single process"):
        load_weights(run / "checkpoints" / f"step-{STEPS}", model)
    return model.eval().model


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_loss_of_each_conversation_is_that_of_the_conversation_alone(
    run: Path, chat: ChatTokenizer, said: dict[str, Conversation], trained: Any
) -> None:
    import torch

    rows = lines(run / "evaluation" / f"losses-step-{STEPS}.jsonl")
    windows = [row for row in said.values() if row.conversation_id in {row["conversation_id"] for row in rows}]
    expected: Counter[str] = Counter()
    for row in windows:
        for window in make_windows(chat, row.messages, Lengths(SOURCE, TARGET)):
            encoded = encode_window(chat, window.messages, TARGET)
            if any(encoded.is_target):
                with torch.no_grad():
                    logs = trained(torch.tensor([encoded.ids]), use_cache=False).logits[0].log_softmax(-1)
                places = [place for place, learned in enumerate(encoded.is_target) if learned]
                expected[row.conversation_id] -= sum(float(logs[place - 1, encoded.ids[place]]) for place in places)
    found = {row["conversation_id"]: row["loss_sum"] for row in rows}
    assert found == pytest.approx(dict(expected), rel=1e-4)
    assert len(found) >= 15, "20 are chosen among the raw conversations, of which the recipe drops some"
    last = lines(run / "evaluations.jsonl")[-1]
    assert last["validation_loss"] == pytest.approx(sum(found.values()) / last["target_tokens"])
    assert last["target_tokens"] == sum(row["target_tokens"] for row in rows)
    assert last["unigram_entropy"] < last["validation_loss"]


def test_replies_are_what_the_model_says_alone_greedily(
    run: Path, chat: ChatTokenizer, said: dict[str, Conversation], trained: Any
) -> None:
    import torch

    samples = lines(run / "evaluation" / f"samples-step-{STEPS}.jsonl")
    assert len(samples) == SAMPLES
    assert len({sample["generated"] for sample in samples}) > SAMPLES // 2, "a model that says one thing proves little"
    for sample in samples:
        messages = said[sample["conversation_id"]].messages
        assert messages[sample["turn"]]["content"] == sample["reference"]
        prompt = truncate_prompt(chat, messages[: sample["turn"]], SOURCE)
        ids = torch.tensor([prompt])
        output = trained.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
            use_cache=True, eos_token_id=list(chat.eos_ids), pad_token_id=chat.eos_ids[0],
        )  # fmt: skip
        assert sample["generated"] == chat.decode(output[0, len(prompt) :].tolist())


def test_each_evaluation_has_its_line_and_the_last_is_the_result(run: Path) -> None:
    evaluations = lines(run / "evaluations.jsonl")
    assert [line["step"] for line in evaluations] == [2, 4]
    assert ["bleu" in line for line in evaluations] == [False, True]
    assert json.loads((run / "result.json").read_text())["evaluation"] == evaluations[-1]
    last = evaluations[-1]
    assert sum(last["replies"].values()) == SAMPLES
    assert all(last["too_few_replies"].values())
    for language, bleu in last["bleu"].items():
        low, high = last["bleu_interval"][language]
        assert low <= bleu <= high
    told = [event["message"] for event in lines(run / "events.jsonl") if event["data"].get("step") == STEPS]
    assert any("too few to tell models apart" in message for message in told)
