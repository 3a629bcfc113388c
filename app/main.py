"""The HTTP service."""

import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import described, errors, once
from app.audit.routes import router as audit
from app.auth import authenticate
from app.console.routes import install as install_console
from app.console.sessions import key_of_session
from app.datasets.routes import router as datasets
from app.datasets.version_routes import router as versions
from app.db import reading
from app.downloads import router as downloads
from app.experiments.routes import router as experiments
from app.files.routes import router as files
from app.filters.reward_routes import router as reward_models
from app.filters.routes import router as filters
from app.filters.smoother_routes import router as smoothers
from app.keys.routes import router as keys
from app.last_used import last_used, written_regularly
from app.lexicons.match import router as matching
from app.lexicons.routes import router as lexicons
from app.limits import request_limits
from app.metrics import metrics, request_metrics
from app.models import ApiKey
from app.recipes.routes import router as recipes
from app.reviews.routes import router as reviews
from app.settings import get_settings
from app.slow_bodies import BodyDeadline
from app.store import get_store
from app.training.chat import generators
from app.training.routes import router as training
from app.uploads.routes import router as uploads
from app.uploads.service import MAX_PART_BYTES
from app.work.routes import router as work

MAX_BODY_BYTES = 32 * 2**20
"""Of every request but an upload."""
FORM_BYTES = 2**20
"""What a form may hold beside the uploaded file or part."""
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with written_regularly():
        yield
    generators().close()
    generators.cache_clear()  # another application in this process makes its own


def create_app() -> FastAPI:
    """The application with all its routes."""
    app = FastAPI(
        title="Talkmill",
        version=version("talkmill"),
        description="Curates business dialogues into immutable, explained dataset versions and fine-tunes on them.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    described.install(app)
    app.add_exception_handler(once.Replayed, lambda _, error: once.replay(error))
    app.add_middleware(BodyDeadline)
    app.middleware("http")(_identify)
    app.include_router(files, max_body_size=get_settings().max_upload_bytes + FORM_BYTES)
    app.include_router(uploads, max_body_size=MAX_PART_BYTES + FORM_BYTES)
    for router in (
        datasets,
        versions,
        downloads,
        recipes,
        lexicons,
        matching,
        filters,
        reward_models,
        smoothers,
        training,
        experiments,
        reviews,
        keys,
        audit,
        work,
    ):
        app.include_router(router, max_body_size=MAX_BODY_BYTES)
    install_console(app, MAX_BODY_BYTES)
    app.add_api_route("/healthz", healthz, tags=["health"])
    app.add_api_route("/metrics", metrics, tags=["health"], response_class=PlainTextResponse)
    app.add_api_route("/readyz", readyz, tags=["health"], response_model=None, responses={503: {"model": Readiness}})
    return app


class Readiness(BaseModel):
    """Whether requests can be served, and what each part says."""

    status: str
    database: str
    broker: str
    store: str


def healthz() -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


def readyz() -> JSONResponse:
    """Database, broker and store answer; 503 with what does not."""
    checks = {"database": _database, "broker": _broker, "store": _store}
    found = {name: check() for name, check in checks.items()}
    ready = all(state == "ok" for state in found.values())
    told = Readiness(status="ready" if ready else "not ready", **found)
    return JSONResponse(told.model_dump(), 200 if ready else 503)


async def _identify(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Checks the key before the body is read, gives every answer a request id, makes faults of ours problems."""
    given = request.headers.get("x-request-id", "")
    started = time.perf_counter()
    request_id = given if REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
    request.state.request_id = request_id
    try:
        if request.url.path.startswith("/v1/"):
            request.state.key = await run_in_threadpool(_admit, request)
        response = await call_next(request)
        if response.status_code == 413:  # in plain text where a limit was told by the length alone
            response = errors.api_error(request, errors.TooLarge("the body is larger than this route takes"))
    except errors.ApiError as error:
        response = errors.api_error(request, error)
    except Exception as error:  # noqa: BLE001  (the edge of the request)
        response = errors.unexpected(request, error)
    finally:
        once.release(request)
    request_metrics().note(request, response.status_code, time.perf_counter() - started)
    response.headers["x-request-id"] = request_id
    response.headers["x-content-type-options"] = "nosniff"
    return response


def _admit(request: Request) -> ApiKey:
    """The request's key, its own or that of the console's session, if it is valid and not used too often."""
    try:
        authorization = request.headers.get("authorization")
        key = key_of_session(request) if authorization is None else None
        key = key or authenticate(authorization)
    except errors.Unauthorized:
        request_limits().count_refusal(request.client.host if request.client else "")
        raise
    request_limits().count(key.id)
    last_used().note(key.id)
    return key


def _database() -> str:
    try:
        with reading() as session:
            session.execute(text("SELECT 1 FROM work LIMIT 1"))
    except SQLAlchemyError as error:
        return type(error).__name__
    return "ok"


def _broker() -> str:
    import redis

    try:
        with redis.Redis.from_url(get_settings().broker_url, socket_connect_timeout=2, socket_timeout=2) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        return type(error).__name__
    return "ok"


def _store() -> str:
    try:
        get_store().check()
    except OSError as error:
        return type(error).__name__
    return "ok"


app = create_app()
