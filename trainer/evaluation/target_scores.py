"""How a finished model does on given conversations, at given source lengths, as a command with a request in a file.

Every reply is a target: its loss after the newest whole turns that fit a length, exactly as a run of that length learns
it with `data.min_history_ratio` 1. Those that are marked are generated too. All models that are given the same
conversations are thus told the same tokens, if their tokenizers are the same; where they are not, the characters of a
target are what they have in common.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import distributed
from torch.nn import functional
from transformers.utils import logging

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.dialogues import (
    DialogueError,
    Lengths,
    Message,
    encode_prompt,
    encode_window,
    make_windows,
    target_turns,
    truncate_prompt,
)
from trainer.evaluation.decoding import generate
from trainer.loss import LOSS_CHUNK, LanguageModelLoss
from trainer.structure.model import open_base

BATCH_TOKENS = 8_192
"""Of one forward pass, padding included."""
LOSSES = pa.schema(
    [
        ("row", pa.int32()),
        ("turn", pa.int32()),
        ("source_length", pa.int32()),
        ("loss_sum", pa.float64()),
        ("tokens", pa.int32()),
        ("characters", pa.int32()),
        ("history_tokens", pa.int32()),
        ("reply_tokens", pa.int32()),
    ]
)
"""A target at a source length: the sum over its tokens, which are cut at the target length; its characters as they are
then; the tokens of all its history, and of the whole reply."""
REPLIES = pa.schema(
    [("row", pa.int32()), ("turn", pa.int32()), ("source_length", pa.int32()), ("generated", pa.string())]
)


@dataclass(frozen=True)
class Request:
    """What is to be scored."""

    model: str
    """Folder."""
    conversations: str
    """Parquet of `messages` and `generate`, the turns that are generated; a row's place is its number."""
    source_lengths: list[int]
    max_target_length: int
    max_new_tokens: int
    out: str
    """Folder for `losses.parquet`, `replies.parquet` and `facts.json`."""


@dataclass(frozen=True)
class _Window:
    """A stretch of a conversation with the targets that see exactly what a source length leaves them."""

    row: int
    turns: list[int]
    """Of the targets."""
    characters: list[int]
    ids: list[int]
    ends: np.ndarray
    """Where the targets' learned tokens begin and end, of shape (targets, 2)."""


@torch.inference_mode()
def score_targets(request: Request) -> None:
    """Scores and writes.

    Raises:
        ConfigError: the folder holds no model that can be opened.
    """
    table = pq.read_table(request.conversations, columns=["messages", "generate"])
    chat = load_chat_tokenizer(request.model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = LanguageModelLoss(
        open_base(Path(request.model), chat, torch.bfloat16 if device.type == "cuda" else torch.float32)
    )
    model.to(device).eval()
    conversations: list[list[Message]] = [_messages(turns) for turns in table["messages"].to_pylist()]
    refused: dict[int, str] = {}
    sizes = {row: _sizes(chat, messages, refused, row) for row, messages in enumerate(conversations)}
    losses, replies = [], []
    for length in request.source_lengths:
        lengths = Lengths(length, request.max_target_length, 1.0)
        windows = [w for row, said in enumerate(conversations) for w in _windows(chat, row, said, lengths, refused)]
        for window, sums in _losses(model, windows):
            for turn, characters, (start, end), loss in zip(
                window.turns, window.characters, window.ends.tolist(), sums, strict=True
            ):
                losses.append((window.row, turn, length, loss, end - start, characters, *sizes[window.row][turn]))
        asked = [(row, turn) for row, turns in enumerate(table["generate"].to_pylist()) for turn in turns]
        asked = [(row, turn) for row, turn in asked if row not in refused]
        prompts = [truncate_prompt(chat, conversations[row][:turn], length) for row, turn in asked]
        said = generate(model, prompts, ends=chat.eos_ids, max_new_tokens=request.max_new_tokens) if prompts else {}
        replies += [(*asked[place], length, chat.decode(ids)) for place, ids in sorted(said.items())]
    out = Path(request.out)
    pq.write_table(_table(losses, LOSSES), out / "losses.parquet")
    pq.write_table(_table(replies, REPLIES), out / "replies.parquet")
    facts = {"tokenizer": chat.fingerprint, "refused": len(refused), "device": device.type}
    (out / "facts.json").write_text(json.dumps(facts), "utf-8")


def _messages(turns: Sequence[dict[str, Any]]) -> list[Message]:
    """Turns without the members that Parquet gives to all of them."""
    made: list[Message] = []
    for turn in turns:
        message: Message = {"role": turn["role"], "content": turn["content"]}
        if turn.get("weight") is not None:
            message["weight"] = turn["weight"]
        if turn.get("cut"):
            message["cut"] = True
        made.append(message)
    return made


def _sizes(
    chat: ChatTokenizer, messages: Sequence[Message], refused: dict[int, str], row: int
) -> dict[int, tuple[int, int]]:
    """Of each target, the tokens of all its history and of the whole reply."""
    try:
        return {
            turn: (len(encode_prompt(chat, messages[:turn])), chat.count(messages[turn]["content"]))
            for turn in target_turns(messages)
        }
    except DialogueError as error:
        refused[row] = str(error)
        return {}


def _windows(
    chat: ChatTokenizer, row: int, messages: Sequence[Message], lengths: Lengths, refused: dict[int, str]
) -> Iterator[_Window]:
    if row in refused:
        return
    try:
        for window in make_windows(chat, messages, lengths):
            encoded = encode_window(chat, window.messages, lengths.max_target_length)
            edges = np.flatnonzero(np.diff(np.array(encoded.is_target, np.int8), prepend=0, append=0)).reshape(-1, 2)
            here = target_turns(window.messages)
            if len(edges) != len(here):  # a reply of which nothing is learned
                continue
            yield _Window(
                row,
                [window.turns[place] for place in here],
                [len(window.messages[place]["content"]) for place in here],
                encoded.ids,
                edges,
            )
    except DialogueError as error:
        refused[row] = str(error)


def _losses(model: LanguageModelLoss, windows: list[_Window]) -> Iterator[tuple[_Window, list[float]]]:
    """Each window's sums of its targets' cross-entropies; windows of like length share a pass."""
    order = sorted(windows, key=lambda window: len(window.ids))
    while order:
        batch = [order.pop()]
        while order and (len(batch) + 1) * len(batch[0].ids) <= BATCH_TOKENS:
            batch.append(order.pop())
        yield from zip(batch, _sums(model, batch), strict=True)


def _sums(model: LanguageModelLoss, batch: Sequence[_Window]) -> Iterator[list[float]]:
    """What pads a row stands behind it, where no token before it looks."""
    device = next(model.parameters()).device
    width = max(len(window.ids) for window in batch)
    ids_BT = torch.tensor([window.ids + [0] * (width - len(window.ids)) for window in batch], device=device)
    places_BT = torch.arange(width, device=device).expand(len(batch), -1)
    decoder = model.model.get_decoder()
    hidden_BTD = decoder(input_ids=ids_BT, position_ids=places_BT, use_cache=False).last_hidden_state
    weight_VD = model.model.get_output_embeddings().weight
    for row, window in enumerate(batch):
        # A token's loss comes from what stands before it.
        places_N = torch.tensor(np.concatenate([np.arange(start, end) for start, end in window.ends]), device=device)
        losses_N = torch.cat(
            [
                functional.cross_entropy(
                    functional.linear(hidden_BTD[row, part_N - 1], weight_VD).float(), ids_BT[row, part_N],
                    reduction="none",
                )
                for part_N in places_N.split(LOSS_CHUNK)
            ]
        ).double()  # fmt: skip
        sizes = np.diff(window.ends, axis=1)[:, 0].tolist()
        yield [float(part.sum()) for part in losses_N.cpu().split(sizes)]


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns: list[Sequence[Any]] = list(zip(*sorted(rows), strict=True)) or [[] for _ in schema]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)


def main(path: Path) -> None:
    """Scores what a file asks for, as a group of one process, which generating wants."""
    logging.disable_progress_bar()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    score_targets(Request(**json.loads(path.read_bytes())))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
