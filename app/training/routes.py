"""Fine-tuning jobs, models and chat, in the shapes of the OpenAI API."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.downloads import blob_response
from app.errors import Conflict, NotFound, Unavailable, Unprocessable, responses
from app.models import Job
from app.once import OnceRoute
from app.training import completions, repository, service
from app.training.schemas import ChatCompletion, ChatRequest, JobObject, ModelObject, NewJob
from app.training.showing import list_models, show_checkpoint, show_job
from app.training.stream import Place, show_event, stream

router = APIRouter(prefix="/v1", tags=["fine-tuning"], route_class=OnceRoute)


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


METADATA = re.compile(r"metadata\[(.+)\]")
JobId = Annotated[str, Path(pattern=r"^ftjob-[0-9a-f]{24}$")]


@router.post("/fine_tuning/jobs", dependencies=[needs("train")], responses=responses(NotFound))
def create(body: NewJob, session: WriteSession) -> JobObject:
    """Fine-tunes a model on a dataset version."""
    return show_job(service.create_job(session, body))


@router.get("/fine_tuning/jobs", dependencies=[needs("read")], responses=responses(NotFound))
def list_jobs(request: Request, session: ReadSession, page: Paged) -> ListOf:
    """All jobs, the newest first; `metadata[key]=value` in the query, as often as wanted, takes those that have it,
    `metadata=null` those that have none.
    """
    rows, more = page_of(session, repository.jobs(_metadata(request)), Job, page)
    return ListOf(data=[show_job(row) for row in rows], has_more=more)


def _metadata(request: Request) -> dict[str, str] | None:
    """What a query asks of jobs' metadata, as the OpenAI API has it; None for those that have none."""
    if request.query_params.get("metadata") == "null":
        return None
    asked = {found[1]: value for name, value in request.query_params.items() if (found := METADATA.fullmatch(name))}
    if any('"' in key for key in asked):
        raise Unprocessable("metadata: jobs are not found by a key with a quotation mark", param="metadata")
    return asked


@router.get("/fine_tuning/jobs/{job_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get(job_id: JobId, session: ReadSession) -> JobObject:
    """One job."""
    return show_job(repository.get_job(session, job_id))


@router.post(
    "/fine_tuning/jobs/{job_id}/cancel", dependencies=[needs("train")], responses=responses(NotFound, Conflict)
)
def cancel(job_id: JobId, session: WriteSession) -> JobObject:
    """Ends a job; a running one writes a checkpoint first."""
    return show_job(service.cancel_job(session, job_id))


@router.post("/fine_tuning/jobs/{job_id}/pause", dependencies=[needs("train")], responses=responses(NotFound, Conflict))
def pause(job_id: JobId, session: WriteSession) -> JobObject:
    """Stops a job for a while; a running one writes a checkpoint first and is `paused` a moment later."""
    return show_job(service.pause_job(session, job_id))


@router.post(
    "/fine_tuning/jobs/{job_id}/resume", dependencies=[needs("train")], responses=responses(NotFound, Conflict)
)
def resume(job_id: JobId, session: WriteSession) -> JobObject:
    """Queues a paused job again; it goes on from its newest checkpoint."""
    return show_job(service.resume_job(session, job_id))


@router.get("/fine_tuning/jobs/{job_id}/events", dependencies=[needs("read")], responses=responses(NotFound))
def events(job_id: JobId, session: ReadSession, page: Paged) -> ListOf:
    """What happened, the newest first."""
    repository.get_job(session, job_id)
    rows, more = repository.events(session, job_id, page.after, page.limit)
    return ListOf(data=[show_event(row) for row in rows], has_more=more)


@router.get(
    "/fine_tuning/jobs/{job_id}/stream",
    response_class=EventStream,
    dependencies=[needs("read")],
    responses=responses(NotFound, Unprocessable),
)
def follow(
    job_id: JobId,
    session: ReadSession,
    last_event_id: Annotated[str | None, Header(max_length=100, description="where to go on")] = None,
) -> EventStream:
    """Metrics and events as they come, as server-sent events, until the job has ended.

    Messages are `metrics` (a step's line), `event`, `rollback` (steps behind this one are done once more) and `end`.
    """
    repository.get_job(session, job_id)
    return EventStream(stream(job_id, Place.parse(last_event_id)), headers={"cache-control": "no-store"})


@router.get("/fine_tuning/jobs/{job_id}/checkpoints", dependencies=[needs("read")], responses=responses(NotFound))
def checkpoints(job_id: JobId, session: ReadSession, page: Paged) -> ListOf:
    """The checkpoints, the newest first; one that is still `available` can be chatted with by its name, at any time."""
    job = repository.get_job(session, job_id)
    rows = repository.checkpoints(session, job_id)
    ids = [row.id for row in rows]
    if page.after is not None:
        if page.after not in ids:
            raise NotFound("`after` names no checkpoint of this job", param="after")
        rows = rows[ids.index(page.after) + 1 :]
    losses = {row["step"]: row.get("validation_loss") for row in repository.evaluations(session, job_id)}
    data = [show_checkpoint(job, row, losses.get(row.step)) for row in rows[: page.limit]]
    return ListOf(data=data, has_more=len(rows) > page.limit)


@router.get("/fine_tuning/jobs/{job_id}/metrics", dependencies=[needs("read")], responses=responses(NotFound))
def metrics(
    job_id: JobId, session: ReadSession, points: Annotated[int, Query(ge=1, le=100_000)] = 500
) -> dict[str, Any]:
    """Loss, learning rate, gradient norm and speed by step; `downsampled` says when steps were left out.

    `evaluations` are all that there are; a step in `data` after which there was one has its `validation_loss` too.
    """
    repository.get_job(session, job_id)
    data, downsampled = repository.metrics(session, job_id, points)
    evaluations = repository.evaluations(session, job_id)
    losses = {
        row["step"]: {"validation_loss": row["validation_loss"]} for row in evaluations if "validation_loss" in row
    }
    return {
        "object": "list",
        "data": [{**line, **losses.get(line["step"], {})} for line in data],
        "downsampled": downsampled,
        "evaluations": evaluations,
    }


@router.get("/fine_tuning/jobs/{job_id}/files", dependencies=[needs("read")], responses=responses(NotFound))
def files(job_id: JobId, session: ReadSession) -> ListOf:
    """What a finished job left: the last step's Hugging Face folder under its files' own names, that of the best step
    under `best/`, LoRA's adapter under `adapter/`, replies generated on held-out conversations under `evaluation/`.
    """
    repository.get_job(session, job_id)
    rows = repository.files(session, job_id)
    return ListOf(data=[{"name": row.name, "bytes": row.bytes, "sha256": row.sha256} for row in rows], has_more=False)


@router.get(
    "/fine_tuning/jobs/{job_id}/files/{name:path}",
    response_class=StreamingResponse,
    dependencies=[needs("read")],
    responses=responses(NotFound),
)
def file(request: Request, job_id: JobId, name: str, session: ReadSession) -> Response:
    """One file of a finished job."""
    repository.get_job(session, job_id)
    row = next((row for row in repository.files(session, job_id) if row.name == name), None)
    if row is None:
        raise NotFound("the job has no such file", param="name")
    return blob_response(request, row.sha256, row.bytes, filename=PurePosixPath(name).name)


@router.get("/models", dependencies=[needs("read")], responses=responses())
def models(session: ReadSession) -> ListOf:
    """What jobs can start from: finished fine-tunes, registered bases, presets. All but presets can be chatted with."""
    return ListOf(data=list_models(session), has_more=False)


@router.get("/models/{name:path}", dependencies=[needs("read")], responses=responses(NotFound))
def model(name: str, session: ReadSession) -> ModelObject:
    """One model by its name; `<fine-tune>:best` is the one of the best validation loss."""
    found = next((model for model in list_models(session) if model.id == name.removesuffix(repository.BEST)), None)
    if name.endswith(repository.BEST) and repository.model_files(session, name) is None:
        found = None
    if found is None:
        raise NotFound("there is no model of this name", param="model", code="model_not_found")
    return found.model_copy(update={"id": name})


@router.post(
    "/chat/completions",
    dependencies=[needs("read")],
    response_model=ChatCompletion,
    responses=responses(NotFound, Unavailable),
)
def chat(body: ChatRequest) -> ChatCompletion | EventStream:
    """Answers with a finished model, that of its best validation loss (`<model>:best`), a job's checkpoint
    (`<model or job>:ckpt-step-<n>`), or a registered base.

    With `stream` the answer comes in chunks, as server-sent events. Members of the OpenAI request that are not listed
    here are ignored, as its own servers do with unknown ones.
    """
    return EventStream(completions.complete_in_parts(body)) if body.stream else completions.complete(body)
