"""A POST that is sent again gets the resource of the first one, not a second resource.

Clients name a request by `Idempotency-Key`, or mark a retry by `x-stainless-retry-count` as the OpenAI client does.
An answer is kept in the very transaction that makes its resource, so that no crash can come between the two; so is the
entry in the audit log. Two
requests are the same when key, address, parsed fields and file contents are; a multipart boundary does not count.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, BinaryIO

import orjson
from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.audit.log import record
from app.db import reading
from app.errors import BadRequest, Conflict, responses
from app.models import KeptAnswer

MARKED_FOR_S = 600
"""How long the answer to a request without a key is kept for its marked retries."""
KEYED_FOR_S = 24 * 3600
MAX_KEY_CHARS = 255
SECRET_MEMBERS = ("key",)
"""Shown once and kept nowhere: a replay has null in their place."""
WAIT_S = 60

_under_way: dict[tuple[str, str], asyncio.Event] = {}


class Replayed(Exception):  # noqa: N818  (no error: an answer that is known already)
    """The request was answered before."""

    def __init__(self, answer: KeptAnswer) -> None:
        self.answer = answer


class OnceRoute(APIRoute):
    """A route whose POSTs are answered once."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(_find_answer)]
            options["responses"] = {**responses(BadRequest, Conflict), **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_once(request: Request) -> Response:
            """The session of the route commits only after this has returned."""
            response = await answer(request)
            if request.method != "GET" and response.status_code < 300 and hasattr(request.state, "session"):
                await run_in_threadpool(_keep, request, response)
            return response

        return answer_once


def replay(error: Exception) -> Response:
    """The answer as it was given the first time."""
    assert isinstance(error, Replayed)
    return Response(
        orjson.dumps(error.answer.body), error.answer.status, {"idempotent-replayed": "true"}, "application/json"
    )


def release(request: Request) -> None:
    """Lets retries that wait for this request look at its answer."""
    under_way = getattr(request.state, "under_way", None)
    if under_way is None:
        return
    name, mine = under_way
    mine.set()
    if _under_way.get(name) is mine:  # one without a key does not wait, and may have come after
        del _under_way[name]


def forget_old_answers(session: Session) -> None:
    """Deletes what no retry will ask for any more."""
    now = time.time()
    session.execute(delete(KeptAnswer).where(KeptAnswer.created_at < now - KEYED_FOR_S))
    keyless = KeptAnswer.idempotency_key.is_(None)
    session.execute(delete(KeptAnswer).where(keyless, KeptAnswer.created_at < now - MARKED_FOR_S))


async def _find_answer(request: Request) -> None:
    """Raises the answer to an earlier sending of this request; waits for one that is being answered.

    Raises:
        Replayed: it was answered.
        Conflict: the Idempotency-Key belongs to another request.
        BadRequest: the key is too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
        raise BadRequest(f"Idempotency-Key: 1 to {MAX_KEY_CHARS} characters", param="Idempotency-Key")
    fingerprint = await _fingerprint(request)
    request.state.answer_of = (key, fingerprint)
    name = (request.state.key.id, key or fingerprint)
    may_be_known = key is not None or _is_marked(request)
    while may_be_known and (first := _under_way.get(name)) is not None:
        try:
            await asyncio.wait_for(first.wait(), WAIT_S)
        except TimeoutError:
            detail = "the same request is still being answered: try again"
            raise Conflict(detail, code="still_answering", permanent=False) from None
    # Before anything else is waited for: of two that come at once the second has to see the first.
    _under_way[name] = mine = asyncio.Event()
    request.state.under_way = (name, mine)
    if may_be_known:
        found = await run_in_threadpool(_answer_to, request.state.key.id, key, fingerprint)
        if found is not None and found.request_sha256 != fingerprint:
            raise Conflict("the Idempotency-Key was used for another request", code="idempotency_key_reused")
        if found is not None:
            raise Replayed(found)


def _is_marked(request: Request) -> bool:
    count = request.headers.get("x-stainless-retry-count", "0")
    return count.isdecimal() and int(count) >= 1


def _answer_to(api_key_id: str, key: str | None, fingerprint: str) -> KeptAnswer | None:
    mine = select(KeptAnswer).where(KeptAnswer.api_key_id == api_key_id)
    if key is not None:
        mine = mine.where(KeptAnswer.idempotency_key == key)
    else:
        since = time.time() - MARKED_FOR_S
        mine = mine.where(KeptAnswer.request_sha256 == fingerprint, KeptAnswer.created_at >= since)
    with reading() as session:
        return session.scalar(mine.order_by(KeptAnswer.seq.desc()).limit(1))


def _keep(request: Request, response: Response) -> None:
    """Adds the answer to a POST, and the entry of the audit log, to the route's own transaction.

    Raises:
        Conflict: another process answers a request with this key at this moment.
    """
    body = orjson.loads(bytes(response.body))
    session: Session = request.state.session
    last_id = next(reversed(request.path_params.values()), None)
    record(session, request, response, body.get("id", last_id))
    if request.method != "POST":
        return
    key, fingerprint = request.state.answer_of
    body.update({name: None for name in SECRET_MEMBERS if name in body})
    session.add(
        KeptAnswer(
            api_key_id=request.state.key.id,
            idempotency_key=key,
            request_sha256=fingerprint,
            status=response.status_code,
            body=body,
        )
    )
    try:
        session.flush()
    except IntegrityError:
        detail = "a request with this Idempotency-Key is being answered: try again"
        raise Conflict(detail, code="still_answering", permanent=False) from None


async def _fingerprint(request: Request) -> str:
    """Hash of address, parsed fields and file contents; the body has been read already."""
    kind = request.headers.get("content-type", "")
    parts: list[Any] = [request.url.path, request.url.query]
    if kind.startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
        for name, value in sorted((await request.form()).multi_items(), key=lambda item: item[0]):
            if isinstance(value, UploadFile):
                parts.append([name, value.filename, await run_in_threadpool(_file_sha256, value.file)])
            else:
                parts.append([name, value])
    else:
        body = await request.body()
        parts.append(_canonical(body))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _canonical(body: bytes) -> str:
    """JSON without what does not count; other bytes by their hash."""
    try:
        return json.dumps(json.loads(body), sort_keys=True)
    except (ValueError, RecursionError):
        return hashlib.sha256(body).hexdigest()


def _file_sha256(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest
