"""A finished model's losses and replies are those of each target alone, after the history that its length leaves it."""

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tiny_base import make_tiny_base
from transformers import AutoModelForCausalLM

from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.dialogues import Lengths, encode_window, make_windows, truncate_prompt
from trainer.evaluation.target_scores import main

LENGTHS, TARGET = (48, 160), 12


def _conversation(number: int) -> list[dict[str, Any]]:
    rng = random.Random(number)
    turns: list[dict[str, Any]] = []
    for place in range(2 * (1 + number % 4)):
        text = "".join(rng.choices("我想查一下话费好的请稍等", k=rng.randint(3, 12)))
        turns.append({"role": ("user", "assistant")[place % 2], "content": text, "weight": None, "cut": False})
    if number == 3:
        turns[1]["weight"] = 0
    return turns


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[list[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("scored")
    base = make_tiny_base(folder / "base")
    conversations = [_conversation(number) for number in range(8)]
    generate = [[len(turns) - 1] if number % 2 else [] for number, turns in enumerate(conversations)]
    pl.DataFrame({"messages": conversations, "generate": generate}, {"messages": pl.List(pl.Struct({
        "role": pl.String, "content": pl.String, "weight": pl.Int64, "cut": pl.Boolean
    })), "generate": pl.List(pl.Int64)}).write_parquet(folder / "conversations.parquet")  # fmt: skip
    request = {
        "model": str(base), "conversations": str(folder / "conversations.parquet"), "source_lengths": list(LENGTHS),
        "max_target_length": TARGET, "max_new_tokens": 5, "out": str(folder),
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(request))
    main(folder / "request.json")
    return folder, base, conversations


def test_a_loss_is_that_of_the_target_alone(scored: tuple[Path, Path, list[list[dict[str, Any]]]]) -> None:
    folder, base, conversations = scored
    losses = pl.read_parquet(folder / "losses.parquet")
    model, chat = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), load_chat_tokenizer(str(base))
    expected = {(row, turn) for row, turns in enumerate(conversations) for turn in range(1, len(turns), 2)} - {(3, 1)}
    for length in LENGTHS:
        mine = losses.filter(pl.col("source_length") == length)
        assert set(mine.select("row", "turn").rows()) == expected, "each reply once, but for the one of weight 0"
    assert losses["history_tokens"].max() > LENGTHS[0], "some histories are cut"
    for row, turn, length, loss, tokens, *_ in losses.iter_rows():
        said = [{"role": one["role"], "content": one["content"]} for one in conversations[row][: turn + 1]]
        (window,) = make_windows(chat, said, Lengths(length, TARGET, 1.0), mode="newest", targets="last")
        encoded = encode_window(chat, window.messages, TARGET)
        ids = torch.tensor([encoded.ids])
        with torch.no_grad():
            found = torch.log_softmax(model(ids).logits[0, :-1].float(), -1)
        places = [place for place, learned in enumerate(encoded.is_target) if learned]
        assert tokens == len(places) <= TARGET
        assert loss == pytest.approx(-sum(float(found[p - 1, encoded.ids[p]]) for p in places), rel=1e-4)


def test_replies_are_greedy_after_the_history_that_fits(scored: tuple[Path, Path, list[list[dict[str, Any]]]]) -> None:
    folder, base, conversations = scored
    replies = pl.read_parquet(folder / "replies.parquet")
    assert sorted(set(replies["row"])) == [1, 3, 5, 7]
    assert len(replies) == 4 * len(LENGTHS)
    model, chat = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), load_chat_tokenizer(str(base))
    for row, turn, length, text in replies.iter_rows():
        ids = truncate_prompt(chat, conversations[row][:turn], length)
        new: list[int] = []
        with torch.no_grad():
            while len(new) < 5:
                token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
                if token in chat.eos_ids:
                    break
                new.append(token)
        assert text == chat.decode(new)
