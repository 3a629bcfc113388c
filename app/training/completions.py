"""Chat completions: which model answers, and its answer in the shape of the OpenAI API.

A finished fine-tune, one of a job's checkpoints, or a registered base as it came: whichever machine it was trained on,
its files come from the store.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db import reading
from app.errors import ApiError, NotFound, Unprocessable
from app.models import Job, new_id
from app.training import repository
from app.training.chat import generators
from app.training.curated import CuratedTurns, curate_turns
from app.training.folders import lay_out, lay_out_checkpoint
from app.training.schemas import ChatCompletion, ChatMessage, ChatRequest, Choice, Usage
from trainer.config import Data

CHECKPOINT = ":ckpt-step-"


@dataclass(frozen=True)
class Speaker:
    """A model that can answer, and how long a question and an answer may be."""

    files: dict[str, str]
    """Of its folder, or of its run directory for a checkpoint, by name."""
    max_source_length: int
    max_target_length: int
    version_id: str | None
    """What it learned; None of a base."""
    checkpoint: str | None = None
    """Folder in the run directory."""
    config: dict[str, Any] = field(default_factory=dict)
    """Of the checkpoint's run."""
    base: dict[str, str] | None = None
    """Files, by name, of the base that the run began with, if the store has it."""

    def lay_out(self) -> tuple[Path, Path | None]:
        """The model's folder, or the run directory and the checkpoint's folder, on this machine."""
        if self.checkpoint is None:
            return lay_out(self.files), None
        based = {} if self.base is None else {"base": str(lay_out(self.base))}
        run_dir = lay_out_checkpoint(self.files, {**self.config, "model": {**self.config["model"], **based}})
        return run_dir, run_dir / self.checkpoint


def complete(body: ChatRequest) -> ChatCompletion:
    """Answers a chat; template and truncation are those of training.

    Raises:
        NotFound: there is no such model.
        Unprocessable: the messages cannot be answered.
        Unavailable: the model's process does not answer.
    """
    reply = _answer(body)
    *_, answer = reply.lines
    choice = Choice(message=ChatMessage(content=answer["text"]), finish_reason=answer["finish_reason"])
    return ChatCompletion(
        id=new_id("chatcmpl"), created=int(time.time()), model=body.model, choices=[choice], usage=_usage(answer),
        **reply.beside,
    )  # fmt: skip


def complete_in_parts(body: ChatRequest) -> Iterator[bytes]:
    """The same as server-sent events, in the chunks of the OpenAI API; what is wrong is raised before the first."""
    reply = _answer(body)
    first = next(reply.lines)
    return _chunks(body, chain([first], reply.lines), reply.beside)


def _chunks(body: ChatRequest, lines: Iterator[dict[str, Any]], beside: dict[str, Any]) -> Iterator[bytes]:
    """`beside` is told with the first chunk."""
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    head = {
        "id": new_id("chatcmpl"), "object": "chat.completion.chunk", "created": int(time.time()), "model": body.model
    }  # fmt: skip

    def chunk(choices: list[dict[str, Any]], usage: Usage | None = None, beside: dict[str, Any] | None = None) -> bytes:
        told = {"usage": None if usage is None else usage.model_dump()} if wants_usage else {}
        told |= beside or {}
        return f"data: {json.dumps({**head, 'choices': choices, **told}, ensure_ascii=False)}\n\n".encode()

    def choice(delta: dict[str, str], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]

    yield chunk(choice({"role": "assistant", "content": ""}), beside=beside)
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


@dataclass(frozen=True)
class Reply:
    """What a model's process tells, line by line, and how what was asked was curated, if that was wanted."""

    lines: Iterator[dict[str, Any]]
    curated: CuratedTurns | None

    @property
    def beside(self) -> dict[str, Any]:
        """What the answer says beside the OpenAI members."""
        return {} if self.curated is None else {"curated": asdict(self.curated)}


def _answer(body: ChatRequest) -> Reply:
    if body.messages[-1].role == "assistant":
        raise Unprocessable("messages: the last one must not be the assistant's", param="messages")
    turns = [{"role": "system" if t.role == "developer" else t.role, "content": t.content} for t in body.messages]
    curated = None
    with reading() as session:  # given back before files are fetched and the answer is waited for
        speaker = find_speaker(session, body.model)
        if body.curate:
            if speaker.version_id is None:
                raise Unprocessable("curate: a base has learned no version whose recipe could run", param="curate")
            curated = curate_turns(session, speaker.version_id, turns)
    request = {
        "messages": turns if curated is None else curated.messages,
        "temperature": body.temperature, "top_p": body.top_p, "seed": body.seed,
        "max_new_tokens": body.max_completion_tokens or body.max_tokens or speaker.max_target_length,
        "max_source_length": speaker.max_source_length, "stream": body.stream,
    }  # fmt: skip
    return Reply(generators().ask(*speaker.lay_out(), request), curated)


def _usage(answer: dict[str, Any]) -> Usage:
    asked, said = answer["prompt_tokens"], answer["completion_tokens"]
    return Usage(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said)


def find_speaker(session: Session, model: str) -> Speaker:
    """The model of this name: a fine-tune's, its best one, a checkpoint, or a registered base.

    Raises:
        NotFound: there is none that can answer.
    """
    name, _, step = model.partition(CHECKPOINT)
    job = repository.find_model(session, name.removesuffix(repository.BEST))
    if step:
        return _checkpoint(session, job or session.get(Job, name), name, step)
    files = repository.model_files(session, name)
    if files is None:
        raise NotFound(f"there is no finished or registered model {name}", param="model", code="model_not_found")
    return Speaker(files, *_lengths(job), None if job is None else job.version_id)


def _checkpoint(session: Session, job: Job | None, name: str, step: str) -> Speaker:
    """One of a job's checkpoints, which the store keeps as long as the run does."""
    rows = [] if job is None else [row for row in repository.checkpoints(session, job.id) if row.files]
    row = next((row for row in rows if str(row.step) == step), None)
    if job is None or row is None:
        kept = f"; kept are those of {', '.join(str(row.step) for row in reversed(rows))}" if rows else ""
        detail = f"{name} has no checkpoint of step {step[:20]}{kept}"
        raise NotFound(detail, param="model", code="model_not_found")
    folder = f"checkpoints/step-{step}"
    files = {file["name"]: file["sha256"] for file in row.files if file["name"].startswith((folder, "tokenizer/"))}
    base = job.config["model"].get("base")
    resolved = job.resolved
    config = {
        **resolved,
        "model": {**resolved["model"], "base": base},
        "data": {**resolved["data"], "version": job.version_id, "mix": []},
    }
    based_on = repository.model_files(session, base) if base else None
    return Speaker(files, *_lengths(job), job.version_id, folder, config, based_on)


def _lengths(job: Job | None) -> tuple[int, int]:
    """Of question and answer, those that a model was trained with; a base has none, and gets the trainer's defaults."""
    known = job.resolved.get("data", {}) if job else {}
    names = ("max_source_length", "max_target_length")
    data = Data(version="", **{name: known[name] for name in names if name in known})
    return data.max_source_length, data.max_target_length
