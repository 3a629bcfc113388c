"""A job's life as server-sent events: its metrics and events as they come, until it has ended.

Every message bears the place of the newest event and step told, so whoever comes back with `Last-Event-ID`, to any
process of the service, hears what came since, nothing twice. A step that is done once more after a rollback is told
once more, behind a message `rollback`. The database is asked once a second, from a session that is given back at once.
"""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import anyio

from app.db import reading
from app.errors import Unprocessable
from app.models import FINAL, JobEvent
from app.training import repository

POLL_S = 1.0
HEARTBEAT_S = 15.0
BATCH = 500
"""Events and steps of one look at the database."""


@dataclass(frozen=True)
class Place:
    """How much of a job was told: the number of its newest event, and its newest step."""

    event: int = 0
    step: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "Place":
        """Reads a `Last-Event-ID`; None is the beginning.

        Raises:
            Unprocessable: it is none of ours.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", text)
        if found is None:
            raise Unprocessable("Last-Event-ID: not an id of this stream", param="Last-Event-ID")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.event}-{self.step}"


def show_event(row: JobEvent) -> dict[str, Any]:
    """An event as the OpenAI API tells it."""
    return {
        "id": row.id, "object": "fine_tuning.job.event", "created_at": int(row.created_at), "level": row.level,
        "message": row.message, "data": row.data, "type": "message",
    }  # fmt: skip


async def stream(job_id: str, place: Place) -> AsyncIterator[bytes]:
    """Messages `metrics`, `event`, `rollback`, and last of all `end` with the job's status; comments between them."""
    told_at = anyio.current_time()
    while True:
        messages, place, ended = await anyio.to_thread.run_sync(_news, job_id, place)
        for message in messages:
            yield message
        if ended is not None:
            yield _message("end", place, {"status": ended})
            return
        if messages:
            told_at = anyio.current_time()
        elif anyio.current_time() - told_at >= HEARTBEAT_S:
            told_at = anyio.current_time()
            yield b": still here\n\n"
        if len(messages) < BATCH:
            await anyio.sleep(POLL_S)


def _news(job_id: str, place: Place) -> tuple[list[bytes], Place, str | None]:
    """What came since, where that leads, and the status once the job has ended and all of it is told."""
    messages: list[bytes] = []
    with reading() as session:
        status = repository.get_job(session, job_id).status
        newest = repository.newest_step(session, job_id)
        events = repository.events_since(session, job_id, place.event, BATCH)
        steps = repository.metrics_since(session, job_id, min(place.step, newest), BATCH)
    if newest < place.step:
        place = replace(place, step=newest)
        messages.append(_message("rollback", place, {"step": newest}))
    for row in events:
        place = replace(place, event=row.seq)
        messages.append(_message("event", place, show_event(row)))
    for line in steps:
        place = replace(place, step=line["step"])
        messages.append(_message("metrics", place, line))
    return messages, place, status if status in FINAL and not messages else None


def _message(name: str, place: Place, data: dict[str, Any]) -> bytes:
    return f"id: {place}\nevent: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
