"""Pairs of replies: how they are read, what a packed pair costs, and what is said of a reward model's scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import ConfigError, parse_config
from trainer.dialogues import Lengths, Message, encode_window
from trainer.intervals import wilson
from trainer.reward.evaluation import pairwise
from trainer.reward.preferences import CHOSEN, REJECTED, encode_pair, open_preferences

ASKED = [{"role": "user", "content": "我想查一下话费"}]
PAIR = {"messages": ASKED, "chosen": "好的，正在为您查询。", "rejected": "自己查。"}
LENGTHS = Lengths(64, 32)


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return load_chat_tokenizer("deepseek")


def reply(text: str) -> Message:
    return {"role": "assistant", "content": text}


def written(folder: Path, records: list[Any]) -> Path:
    path = folder / "preferences.jsonl"
    lines = (one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in records)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def test_a_pair_is_both_dialogues_as_each_alone_with_a_verdict_behind_it(chat: ChatTokenizer) -> None:
    history: list[Message] = [
        {"role": "user", "content": "一" * 90},
        reply("嗯"),
        {"role": "user", "content": "二" * 9},
    ]
    row = encode_pair(chat, [*history, reply("三"), reply("四" * 60)], LENGTHS)
    verdicts = [place for place, is_target in enumerate(row.is_target) if is_target]
    assert [row.ids[place] for place in verdicts] == [CHOSEN, REJECTED]
    newest = history[2:]
    assert row.ids[: verdicts[0]] == encode_window(chat, [*newest, reply("三")], 32).ids
    rejected = row.ids[verdicts[0] + 1 : verdicts[1]]
    assert rejected[: len(rejected) - 32] == row.ids[: verdicts[0] - 2], "the same history: a reply and its end are two"
    assert chat.decode(rejected[-32:]) == "四" * len(chat.decode(rejected[-32:])), "cut on its right, without the end"
    assert len(row.ids) <= 2 * (64 + 32 + 1)


def test_a_packed_pair_costs_what_transformers_makes_of_its_replies_alone() -> None:
    """In rows of several pairs and padding; both verdicts have the pair's loss, one alone has none."""
    import torch
    from torch.nn.functional import logsigmoid
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from trainer.data.batches import tensors_of
    from trainer.data.vectors import PackedRow
    from trainer.reward.model import RewardLoss

    torch.manual_seed(0)
    model = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_labels=1,
            initializer_range=0.5,
        )
    ).eval()
    random = np.random.default_rng(1)

    def dialogue(length: int) -> list[int]:
        return random.integers(2, 40, length).tolist()

    pairs = [(dialogue(a), dialogue(b)) for a, b in ((3, 5), (7, 2), (4, 4))]

    def packed(samples: list[list[tuple[list[int], int]]]) -> PackedRow:
        ids = [token for sample in samples for dialogue, verdict in sample for token in [*dialogue, verdict]]
        mask = [m for sample in samples for dialogue, _ in sample for m in [*[False] * len(dialogue), True]]
        lengths = [sum(len(dialogue) + 1 for dialogue, _ in sample) for sample in samples]
        return PackedRow(np.array(ids), np.array(mask), np.array(lengths), sum(mask))

    def sample(pair: tuple[list[int], list[int]]) -> list[tuple[list[int], int]]:
        return [(pair[0], CHOSEN), (pair[1], REJECTED)]

    rows = [packed([sample(pairs[0]), sample(pairs[1])]), packed([sample(pairs[2]), [(dialogue(3), CHOSEN)]])]
    tensors = tensors_of(rows, 3, 24)
    loss = RewardLoss(model)
    with torch.no_grad():
        alone = [[model(torch.tensor([ids])).logits.item() for ids in pair] for pair in pairs]
        losses = [float(-2 * logsigmoid(torch.tensor(chosen - rejected))) for chosen, rejected in alone]
        assert loss(*tensors).tolist() == pytest.approx([losses[0] + losses[1], losses[2], 0], abs=1e-5)
        scores = loss.scores(*tensors).tolist()
        by_sample = loss(*tensors, by_sample=True).tolist()
    assert scores[:6] == pytest.approx([score for pair in alone for score in pair], abs=1e-5)
    assert [value for value in by_sample if value] == pytest.approx(losses, abs=1e-5)


def test_jsonl_and_parquet_give_the_same_pairs_and_what_is_none_is_counted(chat: ChatTokenizer, tmp_path: Path) -> None:
    as_messages = {**PAIR, "chosen": [reply("好的。")], "rejected": reply("不。")}
    broken = [
        "{", "[1]", {**PAIR, "rejected": PAIR["chosen"]}, {**PAIR, "messages": []}, {**PAIR, "chosen": " "},
        {**PAIR, "messages": [{"role": "user"}]}, {"chosen": "a", "rejected": "b"},
    ]  # fmt: skip
    made = open_preferences(written(tmp_path, [PAIR, *broken, as_messages]), tmp_path / "a")
    rows = list(made.conversations())
    assert [[m["content"] for m in row.messages[-2:]] for row in rows] == [
        ["好的，正在为您查询。", "自己查。"],
        ["好的。", "不。"],
    ]
    assert made.manifest["counts"] == {"pairs": 2, "refused": len(broken)}
    pq.write_table(pa.Table.from_pylist([PAIR, {**PAIR, "chosen": "好的。", "rejected": "不。"}]), tmp_path / "p")
    of_parquet = open_preferences(tmp_path / "p", tmp_path / "b")
    assert [row.messages for row in of_parquet.conversations()] == [row.messages for row in rows]


def test_another_file_makes_another_version(tmp_path: Path) -> None:
    first = open_preferences(written(tmp_path, [PAIR]), tmp_path / "made")
    assert open_preferences(written(tmp_path, [PAIR]), tmp_path / "made").digest == first.digest
    other = open_preferences(written(tmp_path, [{**PAIR, "chosen": "好。"}]), tmp_path / "made")
    assert other.digest != first.digest
    assert next(other.conversations()).messages[-2]["content"] == "好。"


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.preferences: no record of preferences.jsonl"):
        open_preferences(written(tmp_path, [{"text": "a"}]), tmp_path / "made")
    with pytest.raises(ConfigError, match=r"data.preferences: cannot read"):
        open_preferences(tmp_path / "nowhere", tmp_path / "made")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "reward", "data": {"version": "m"}}, "wants data.preferences"),
        ({"data": {"preferences": "p"}}, "data.preferences"),
        ({"objective": "reward", "data": {"preferences": "p", "where": ["gender:male"]}}, "data.where"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"model": {"scratch": {}}, **changes})


def test_figures_of_pairs() -> None:
    rows = [
        {"chosen": 2.0, "rejected": 1.0, "chosen_chars": 9, "rejected_chars": 5},
        {"chosen": 0.5, "rejected": 0.7, "chosen_chars": 3, "rejected_chars": 4},
        {"chosen": 0.1, "rejected": 0.1, "chosen_chars": 1, "rejected_chars": 2},
    ]
    found = pairwise(rows)
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["longer_wins"] == pytest.approx(1 / 3)
    assert found["length_correlation"] == pytest.approx(0.98561, abs=1e-5), "all in order but for a draw"
    assert found["validation_loss"] == pytest.approx(np.mean(np.log1p(np.exp([-1.0, 0.2, 0.0]))))
    assert pairwise([{**rows[0], "chosen": 1.0}] * 2)["length_correlation"] is None


def test_wilsons_interval() -> None:
    assert wilson(0.6, 60) == pytest.approx((0.4737, 0.7143), abs=1e-4)
    low, high = wilson(1.0, 20)
    assert 0.83 < low < 0.85
    assert high == 1.0
