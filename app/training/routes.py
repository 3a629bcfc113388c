"""Fine-tuning jobs, models and chat, in the shapes of the OpenAI API."""

import time
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, Unavailable, Unprocessable, responses
from app.models import Job, new_id
from app.settings import get_settings
from app.store import CHUNK_BYTES, get_store
from app.training import repository, service
from app.training.chat import generators
from app.training.schemas import ChatCompletion, ChatMessage, ChatRequest, Choice, JobObject, NewJob, Usage
from trainer.config import PRESETS

router = APIRouter(prefix="/v1", tags=["fine-tuning"])
JobId = Annotated[str, Path(pattern=r"^ftjob-[0-9a-f]{24}$")]
CHECKPOINT = ":ckpt-step-"


@router.post("/fine_tuning/jobs", dependencies=[needs("train")], responses=responses(NotFound))
def create(body: NewJob, session: WriteSession) -> JobObject:
    """Fine-tunes a model on a dataset version."""
    return service.show_job(service.create_job(session, body))


@router.get("/fine_tuning/jobs", dependencies=[needs("read")], responses=responses(NotFound))
def list_jobs(session: ReadSession, page: Paged) -> ListOf:
    """All jobs, the newest first."""
    rows, more = page_of(session, select(Job), Job, page)
    return ListOf(data=[service.show_job(row) for row in rows], has_more=more)


@router.get("/fine_tuning/jobs/{job_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get(job_id: JobId, session: ReadSession) -> JobObject:
    """One job."""
    return service.show_job(repository.get_job(session, job_id))


@router.post(
    "/fine_tuning/jobs/{job_id}/cancel", dependencies=[needs("train")], responses=responses(NotFound, Conflict)
)
def cancel(job_id: JobId, session: WriteSession) -> JobObject:
    """Ends a job; a running one writes a checkpoint first."""
    return service.show_job(service.cancel_job(session, job_id))


@router.get("/fine_tuning/jobs/{job_id}/events", dependencies=[needs("read")], responses=responses(NotFound))
def events(job_id: JobId, session: ReadSession, page: Paged) -> ListOf:
    """What happened, the newest first."""
    repository.get_job(session, job_id)
    rows, more = repository.events(session, job_id, page.after, page.limit)
    data = [
        {
            "id": row.id, "object": "fine_tuning.job.event", "created_at": int(row.created_at), "level": row.level,
            "message": row.message, "data": row.data, "type": "message",
        }
        for row in rows
    ]  # fmt: skip
    return ListOf(data=data, has_more=more)


@router.get("/fine_tuning/jobs/{job_id}/checkpoints", dependencies=[needs("read")], responses=responses(NotFound))
def checkpoints(job_id: JobId, session: ReadSession, page: Paged) -> ListOf:
    """The checkpoints, the newest first; each can be chatted with by its name once the job has succeeded."""
    job = repository.get_job(session, job_id)
    rows = repository.checkpoints(session, job_id)
    ids = [row.id for row in rows]
    if page.after is not None:
        if page.after not in ids:
            raise NotFound("`after` names no checkpoint of this job", param="after")
        rows = rows[ids.index(page.after) + 1 :]
    data = [
        {
            "id": row.id, "object": "fine_tuning.job.checkpoint", "created_at": int(row.created_at),
            "fine_tuning_job_id": job_id, "step_number": row.step, "metrics": {"step": row.step, **row.metrics},
            "fine_tuned_model_checkpoint": f"{job.fine_tuned_model or job.id}{CHECKPOINT}{row.step}",
        }
        for row in rows[: page.limit]
    ]  # fmt: skip
    return ListOf(data=data, has_more=len(rows) > page.limit)


@router.get("/fine_tuning/jobs/{job_id}/metrics", dependencies=[needs("read")], responses=responses(NotFound))
def metrics(
    job_id: JobId, session: ReadSession, points: Annotated[int, Query(ge=1, le=100_000)] = 500
) -> dict[str, Any]:
    """Loss, learning rate, gradient norm and speed by step; `downsampled` says when steps were left out."""
    repository.get_job(session, job_id)
    data, downsampled = repository.metrics(session, job_id, points)
    return {"object": "list", "data": data, "downsampled": downsampled}


@router.get("/fine_tuning/jobs/{job_id}/files", dependencies=[needs("read")], responses=responses(NotFound))
def files(job_id: JobId, session: ReadSession) -> ListOf:
    """The finished model's Hugging Face folder."""
    repository.get_job(session, job_id)
    rows = repository.files(session, job_id)
    return ListOf(data=[{"name": row.name, "bytes": row.bytes, "sha256": row.sha256} for row in rows], has_more=False)


@router.get("/fine_tuning/jobs/{job_id}/files/{name:path}", dependencies=[needs("read")], responses=responses(NotFound))
def file(job_id: JobId, name: str, session: ReadSession) -> StreamingResponse:
    """One file of the model folder."""
    repository.get_job(session, job_id)
    row = next((row for row in repository.files(session, job_id) if row.name == name), None)
    if row is None:
        raise NotFound("the model has no such file", param="name")
    headers = {"content-length": str(row.bytes), "etag": f'"{row.sha256}"'}
    return StreamingResponse(_chunks(get_store().path(row.sha256)), 200, headers, "application/octet-stream")


@router.get("/models", dependencies=[needs("read")], responses=responses())
def models(session: ReadSession) -> ListOf:
    """What jobs can start from and chats can be held with."""
    scratch = [{"id": f"scratch:{name}", "object": "model", "created": 0, "owned_by": "talkmill"} for name in PRESETS]
    tuned = [
        {"id": job.fine_tuned_model, "object": "model", "created": int(job.finished_at or 0), "owned_by": "user"}
        for job in repository.finished(session)
    ]
    return ListOf(data=[*tuned, *scratch], has_more=False)


@router.post("/chat/completions", dependencies=[needs("read")], responses=responses(NotFound, Unavailable))
def chat(body: ChatRequest, session: ReadSession) -> ChatCompletion:
    """Answers with a finished model, or with one of its checkpoints; template and truncation as in training."""
    name, _, step = body.model.partition(CHECKPOINT)
    job = repository.find_model(session, name)
    if job is None:
        raise NotFound(f"there is no finished model {name}", param="model", code="model_not_found")
    run_dir = get_settings().runs_dir / job.id
    checkpoint = None
    if step:
        checkpoint = run_dir / "checkpoints" / f"step-{step}"
        if not step.isdecimal() or not checkpoint.is_dir():
            raise NotFound(f"the model has no checkpoint of step {step[:20]}", param="model", code="model_not_found")
    data = job.resolved.get("data", {})
    if body.messages[-1].role == "assistant":
        raise Unprocessable("messages: the last one must not be the assistant's", param="messages")
    turns = [{"role": "system" if t.role == "developer" else t.role, "content": t.content} for t in body.messages]
    request = {
        "messages": turns, "max_new_tokens": body.max_completion_tokens or body.max_tokens or data["max_target_length"],
        "temperature": body.temperature, "top_p": body.top_p, "seed": body.seed,
        "max_source_length": data["max_source_length"],
    }  # fmt: skip
    answer = generators().ask(run_dir, checkpoint, request)
    usage = Usage(
        prompt_tokens=answer["prompt_tokens"], completion_tokens=answer["completion_tokens"],
        total_tokens=answer["prompt_tokens"] + answer["completion_tokens"],
    )  # fmt: skip
    choice = Choice(message=ChatMessage(content=answer["text"]), finish_reason=answer["finish_reason"])
    return ChatCompletion(
        id=new_id("chatcmpl"), created=int(time.time()), model=body.model, choices=[choice], usage=usage
    )


def _chunks(path: FilePath) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
