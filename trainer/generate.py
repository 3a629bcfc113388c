"""Answers chats with a run's model, one JSON request a line: the same template and truncation as in training."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import load_config
from trainer.dialogues import DialogueError, truncate_prompt
from trainer.loss import LanguageModelLoss
from trainer.structure.model import build, load_structure, open_base

MAX_NEW_TOKENS = 4096


def serve(run_dir: Path, checkpoint: Path | None, requests: TextIO, answers: TextIO) -> None:
    """Answers until the requests end; `checkpoint` instead of the finished model, step 0 for what it was before.

    A request with `stream` is answered by lines of `delta`, new text, before the line that others get alone.
    """
    model, chat = load(run_dir, checkpoint)

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer, ensure_ascii=False) + "\n")
        answers.flush()

    for line in requests:
        try:
            request = json.loads(line)
            say = (lambda text: tell({"delta": text})) if request.get("stream") else None
            answer = reply(model, chat, request, say)
        except (DialogueError, KeyError, TypeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        tell(answer)


def load(run_dir: Path, checkpoint: Path | None) -> tuple[PreTrainedModel, ChatTokenizer]:
    """A run's finished model, or one of its checkpoints; or any model folder."""
    folder = run_dir / "model" if (run_dir / "model").is_dir() else run_dir
    if checkpoint is None:
        chat = load_chat_tokenizer(str(folder))
        return open_base(folder, chat, torch.bfloat16).eval(), chat
    from trainer.checkpoint import load_weights

    chat = load_chat_tokenizer(str(run_dir / "tokenizer"))
    config = load_config(run_dir / "config.json")
    wrapped = LanguageModelLoss(build(config, load_structure(config, chat), chat))
    load_weights(checkpoint, wrapped)
    wrapped.model.config.use_cache = True
    for parameter in wrapped.parameters():  # not `.to()`: rotary frequencies stay fp32, as in training
        parameter.data = parameter.data.to(torch.bfloat16)
    return wrapped.model.eval(), chat


@torch.inference_mode()
def reply(
    model: PreTrainedModel, chat: ChatTokenizer, request: dict[str, Any], say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """One reply: `messages`, `max_new_tokens`, `temperature`, `top_p`, `seed`, `max_source_length`.

    `say` is given the text as it grows; its parts joined are the reply's text.
    """
    prompt = truncate_prompt(chat, request["messages"], int(request.get("max_source_length", 1024)))
    temperature = float(request.get("temperature", 0.0))
    wanted = min(int(request.get("max_new_tokens", 256)), MAX_NEW_TOKENS)
    if request.get("seed") is not None:
        torch.manual_seed(int(request["seed"]))
    sampling = {"do_sample": True, "temperature": temperature, "top_p": float(request.get("top_p", 1.0))}
    ids = torch.tensor([prompt])
    streamer = None if say is None else _Streamer(chat, say)
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=wanted,
        eos_token_id=list(chat.eos_ids),
        pad_token_id=chat.eos_ids[0],
        streamer=streamer,
        **(sampling if temperature > 0 else {"do_sample": False}),
    )
    new = output[0, len(prompt) :].tolist()
    ended = bool(new) and new[-1] in chat.eos_ids
    return {
        "text": chat.decode(new),
        "prompt_tokens": len(prompt),
        "completion_tokens": len(new),
        "finish_reason": "stop" if ended else "length",
    }


class _Streamer(BaseStreamer):
    """Tells new text as tokens come; a character whose bytes are not all there waits for the rest."""

    def __init__(self, chat: ChatTokenizer, say: Callable[[str], None]) -> None:
        self._chat, self._say = chat, say
        self._ids: list[int] | None = None
        self._num_said = 0

    def put(self, value: torch.Tensor) -> None:
        if self._ids is None:  # the prompt comes first
            self._ids = []
            return
        self._ids += value.flatten().tolist()
        self._tell(self._chat.decode(self._ids).rstrip("\ufffd"))

    def end(self) -> None:
        self._tell(self._chat.decode(self._ids or []))

    def _tell(self, text: str) -> None:
        if len(text) > self._num_said:
            self._say(text[self._num_said :])
            self._num_said = len(text)


def main(run_dir: Path, checkpoint: Path | None) -> None:
    """Serves standard input and output."""
    serve(run_dir, checkpoint, sys.stdin, sys.stdout)
