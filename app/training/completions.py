"""Chat completions: which model answers, and its answer in the shape of the OpenAI API.

A finished fine-tune, one of its checkpoints, or a registered base as it came.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db import reading
from app.errors import ApiError, NotFound, Unprocessable
from app.models import new_id
from app.settings import get_settings
from app.training import repository
from app.training.chat import generators
from app.training.folders import lay_out
from app.training.schemas import ChatCompletion, ChatMessage, ChatRequest, Choice, Usage
from trainer.config import Data

CHECKPOINT = ":ckpt-step-"


@dataclass(frozen=True)
class Speaker:
    """A model that can answer, and how long a question and an answer may be."""

    files: dict[str, str]
    """Of its folder, by name."""
    checkpoint: Path | None
    """In its run directory, instead of the folder."""
    max_source_length: int
    max_target_length: int


def complete(body: ChatRequest) -> ChatCompletion:
    """Answers a chat; template and truncation are those of training.

    Raises:
        NotFound: there is no such model.
        Unprocessable: the messages cannot be answered.
        Unavailable: the model's process does not answer.
    """
    *_, answer = _answer(body)
    choice = Choice(message=ChatMessage(content=answer["text"]), finish_reason=answer["finish_reason"])
    return ChatCompletion(
        id=new_id("chatcmpl"), created=int(time.time()), model=body.model, choices=[choice], usage=_usage(answer)
    )


def complete_in_parts(body: ChatRequest) -> Iterator[bytes]:
    """The same as server-sent events, in the chunks of the OpenAI API; what is wrong is raised before the first."""
    lines = _answer(body)
    first = next(lines)
    return _chunks(body, chain([first], lines))


def _chunks(body: ChatRequest, lines: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    head = {
        "id": new_id("chatcmpl"), "object": "chat.completion.chunk", "created": int(time.time()), "model": body.model
    }  # fmt: skip

    def chunk(choices: list[dict[str, Any]], usage: Usage | None = None) -> bytes:
        told = {"usage": None if usage is None else usage.model_dump()} if wants_usage else {}
        return f"data: {json.dumps({**head, 'choices': choices, **told}, ensure_ascii=False)}\n\n".encode()

    def choice(delta: dict[str, str], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]

    yield chunk(choice({"role": "assistant", "content": ""}))
    try:
        for line in lines:
            if "delta" in line:
                yield chunk(choice({"content": line["delta"]}))
                continue
            yield chunk(choice({}, line["finish_reason"]))
            if wants_usage:
                yield chunk([], _usage(line))
    except ApiError as error:  # too late for a status
        failure = {"message": error.detail, "type": "server_error", "param": error.param, "code": error.code}
        yield f"data: {json.dumps({'error': failure})}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _answer(body: ChatRequest) -> Iterator[dict[str, Any]]:
    """The lines of the model's process."""
    if body.messages[-1].role == "assistant":
        raise Unprocessable("messages: the last one must not be the assistant's", param="messages")
    with reading() as session:  # given back before files are fetched and the answer is waited for
        speaker = _speaker(session, body.model)
    turns = [{"role": "system" if t.role == "developer" else t.role, "content": t.content} for t in body.messages]
    request = {
        "messages": turns, "temperature": body.temperature, "top_p": body.top_p, "seed": body.seed,
        "max_new_tokens": body.max_completion_tokens or body.max_tokens or speaker.max_target_length,
        "max_source_length": speaker.max_source_length, "stream": body.stream,
    }  # fmt: skip
    folder = speaker.checkpoint.parent.parent if speaker.checkpoint else lay_out(speaker.files)
    return generators().ask(folder, speaker.checkpoint, request)


def _usage(answer: dict[str, Any]) -> Usage:
    asked, said = answer["prompt_tokens"], answer["completion_tokens"]
    return Usage(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said)


def _speaker(session: Session, model: str) -> Speaker:
    name, _, step = model.partition(CHECKPOINT)
    files = repository.model_files(session, name)
    if files is None:
        raise NotFound(f"there is no finished or registered model {name}", param="model", code="model_not_found")
    job = repository.find_model(session, name)
    data = Data(version="", **_lengths(job.resolved.get("data", {}) if job else {}))
    if not step:
        return Speaker(files, None, data.max_source_length, data.max_target_length)
    checkpoint = get_settings().runs_dir / (job.id if job else "") / "checkpoints" / f"step-{step}"
    if job is None or not step.isdecimal() or not checkpoint.is_dir():
        raise NotFound(f"the model has no checkpoint of step {step[:20]}", param="model", code="model_not_found")
    return Speaker(files, checkpoint, data.max_source_length, data.max_target_length)


def _lengths(data: dict[str, int]) -> dict[str, int]:
    """The lengths a model was trained with; a base has none, and gets the trainer's defaults."""
    return {key: data[key] for key in ("max_source_length", "max_target_length") if key in data}
