"""Which replies a run generates: the same whatever its lengths, few of one conversation, none that trained."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import TrainConfig, parse_config
from trainer.data.vectorising import vectorise
from trainer.data.vectors import Vectors
from trainer.data.version import DatasetVersion, open_version
from trainer.evaluation.held_out import Reply, choose_replies, most_frequent_replies, sample_names

NUM = 120
THANKS = "不客气，再见。"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    """Conversations of three replies, the last of them always the same; the third reply of some is masked out."""
    folder = tmp_path_factory.mktemp("version")
    lines = []
    for number in range(NUM):
        replies = [f"第{number}个问题的答案是{number * 7}。" * 3, f"{number}号在{number % 9}楼。", THANKS]
        said = [{"role": "user", "content": f"第{n}次问{number}" * 4} for n in range(3)]
        messages: list[dict[str, Any]] = []
        for question, reply in zip(said, replies, strict=True):
            messages += [question, {"role": "assistant", "content": reply}]
        if number % 4 == 0:
            messages[1]["weight"] = 0
        lines.append({"id": f"c{number}", "messages": messages})
    (folder / "made.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    curate([folder / "made.jsonl"], folder / "version", recipe=parse_recipe({"operators": []}))
    return open_version(str(folder / "version" / "manifest.json"))


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return load_chat_tokenizer("deepseek")


def made(version: DatasetVersion, chat: ChatTokenizer, cache: Path, **data: Any) -> tuple[TrainConfig, Vectors]:
    settings = {"version": "m", "cache_dir": str(cache), "validation_share": 0.2, **data}
    config = parse_config({"model": {"scratch": {"preset": "tiny"}}, "data": settings})
    return config, vectorise(version, chat, config)


def chosen(
    version: DatasetVersion, chat: ChatTokenizer, cache: Path, count: int, seed: int = 0, **data: Any
) -> list[Reply]:
    config, vectors = made(version, chat, cache, **data)
    return choose_replies(version, sample_names(vectors).values(), config.data, count=count, seed=seed)


def test_lengths_do_not_change_the_choice_and_the_seed_does(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path
) -> None:
    long = chosen(version, chat, tmp_path, 15)
    assert chosen(version, chat, tmp_path, 15, max_source_length=60, max_target_length=30) == long
    assert {reply.text for reply in chosen(version, chat, tmp_path, 15, seed=1)} != {reply.text for reply in long}
    assert chosen(version, chat, tmp_path, 20)[:15] == long


def test_one_reply_of_each_conversation_comes_before_a_second_and_there_is_no_third(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path
) -> None:
    held_out = 24
    assert max(Counter(reply.conversation_id for reply in chosen(version, chat, tmp_path, held_out)).values()) == 1
    every = chosen(version, chat, tmp_path, 300)
    assert set(Counter(reply.conversation_id for reply in every).values()) == {2}
    assert len(every) == 2 * held_out


def test_replies_are_learnable_ones_after_what_was_said_before(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path
) -> None:
    said = {row.id: row.messages for row in version.conversations()}
    for reply in chosen(version, chat, tmp_path, 300):
        messages = said[reply.conversation_id]
        assert list(reply.history) == messages[: reply.turn]
        assert messages[reply.turn]["content"] == reply.text
        assert messages[reply.turn].get("weight") != 0
    last = chosen(version, chat, tmp_path, 300, targets="last")
    assert {reply.text for reply in last} == {THANKS}


def test_nothing_that_is_generated_was_trained_on(version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path) -> None:
    _, vectors = made(version, chat, tmp_path)
    held_out = {conversation for names in sample_names(vectors).values() for _, conversation in names}
    trained = vectors.facts["samples"] - sum(map(len, sample_names(vectors).values()))
    assert {reply.conversation_id for reply in chosen(version, chat, tmp_path, 300)} <= held_out
    assert trained == NUM - len(held_out)
    assert most_frequent_replies(vectors, chat) == {"zh": THANKS}
