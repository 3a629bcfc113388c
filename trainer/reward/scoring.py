"""Scores conversations by a reward model, a JSON line each: `python -m trainer score RUN_DIR`.

A conversation's score is the lowest of its replies', each read at the reply's end, after the history before it, under
the lengths that the model was trained with. Only order and differences mean something.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import ConfigError
from trainer.dialogues import DialogueError, Lengths, Message, encode_window, make_windows
from trainer.reward.model import LENGTHS

BATCH_TOKENS = 8_192
"""Of one forward pass, padding included."""


@dataclass(frozen=True)
class _Window:
    """A part of a conversation, and where its replies end."""

    conversation: int
    ids: list[int]
    ends: np.ndarray


class Scorer:
    """A trained reward model."""

    def __init__(self, folder: Path) -> None:
        """Opens a run's finished model, or its model folder.

        Raises:
            ConfigError: there is no reward model.
        """
        folder = folder / "model" if (folder / "model").is_dir() else folder
        self._model = _open(folder)
        self._chat: ChatTokenizer = load_chat_tokenizer(str(folder))
        self._lengths = Lengths(**getattr(self._model.config, LENGTHS))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device).eval()

    def scores(self, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        """Of each conversation; None where there is no reply to score, or the chat template refuses it."""
        windows = [window for number, one in enumerate(conversations) for window in self._windows(number, one)]
        found: list[float | None] = [None] * len(conversations)
        for batch in _batches(sorted(windows, key=lambda window: len(window.ids))):
            for window, lowest in zip(batch, self._lowest(batch), strict=True):
                before = found[window.conversation]
                found[window.conversation] = lowest if before is None else min(before, lowest)
        return found

    def _windows(self, number: int, messages: Sequence[Message]) -> Iterator[_Window]:
        try:
            for window in make_windows(self._chat, messages, self._lengths):
                row = encode_window(self._chat, window.messages, self._lengths.max_target_length)
                if row.ids:
                    is_target = np.array([*row.is_target, False])
                    yield _Window(number, row.ids, np.flatnonzero(is_target[:-1] & ~is_target[1:]))
        except DialogueError:
            return

    @torch.inference_mode()
    def _lowest(self, batch: Sequence[_Window]) -> list[float]:
        """Each window's lowest score. What pads a row stands behind it, where no token before it looks."""
        width = max(len(window.ids) for window in batch)
        ids_BT = torch.tensor([window.ids + [0] * (width - len(window.ids)) for window in batch], device=self._device)
        decoder = getattr(self._model, self._model.base_model_prefix)
        places_BT = torch.arange(width, device=self._device).expand(len(batch), -1)
        hidden_BTD = decoder(input_ids=ids_BT, position_ids=places_BT, use_cache=False).last_hidden_state
        scores_BT = self._model.score(hidden_BTD)[..., 0].float().cpu().numpy()
        return [round(float(scores_BT[row][window.ends].min()), 6) for row, window in enumerate(batch)]


def _open(folder: Path) -> PreTrainedModel:
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder}: no reward model: {str(error).splitlines()[0]}") from None
    if found["missing_keys"] or not hasattr(model.config, LENGTHS):
        raise ConfigError(f"{folder}: no reward model that was trained here")
    return model


def _batches(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Windows, the shortest first, as many at once as their padded tokens allow."""
    batch: list[_Window] = []
    for window in windows:
        if batch and (len(batch) + 1) * len(window.ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def serve(folder: Path, requests: TextIO, answers: TextIO) -> None:
    """Answers until the requests end.

    `{"messages"}` gets `{"score"}`, and `{"conversations": [{"messages"}]}` gets `{"scores"}`.
    """
    scorer = Scorer(folder)
    for line in requests:
        try:
            request = json.loads(line)
            if "conversations" in request:
                answer: dict[str, Any] = {
                    "scores": scorer.scores([one["messages"] for one in request["conversations"]])
                }
            else:
                answer = {"score": scorer.scores([request["messages"]])[0]}
        except (KeyError, TypeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main(folder: Path) -> None:
    """Serves standard input and output."""
    logging.disable_progress_bar()
    serve(folder, sys.stdin, sys.stdout)
