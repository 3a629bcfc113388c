"""Chat completions: which model answers, and its answer in the shape of the OpenAI API.

A finished fine-tune, one of its checkpoints, or a registered base as it came.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.db import reading
from app.errors import NotFound, Unprocessable
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
    if body.messages[-1].role == "assistant":
        raise Unprocessable("messages: the last one must not be the assistant's", param="messages")
    with reading() as session:  # given back before files are fetched and the answer is waited for
        speaker = _speaker(session, body.model)
    turns = [{"role": "system" if t.role == "developer" else t.role, "content": t.content} for t in body.messages]
    request = {
        "messages": turns, "temperature": body.temperature, "top_p": body.top_p, "seed": body.seed,
        "max_new_tokens": body.max_completion_tokens or body.max_tokens or speaker.max_target_length,
        "max_source_length": speaker.max_source_length,
    }  # fmt: skip
    folder = speaker.checkpoint.parent.parent if speaker.checkpoint else lay_out(speaker.files)
    answer = generators().ask(folder, speaker.checkpoint, request)
    usage = Usage(
        prompt_tokens=answer["prompt_tokens"], completion_tokens=answer["completion_tokens"],
        total_tokens=answer["prompt_tokens"] + answer["completion_tokens"],
    )  # fmt: skip
    choice = Choice(message=ChatMessage(content=answer["text"]), finish_reason=answer["finish_reason"])
    return ChatCompletion(
        id=new_id("chatcmpl"), created=int(time.time()), model=body.model, choices=[choice], usage=usage
    )


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
