"""The edge of every request: its id, its caller, and the one place where unexpected exceptions end."""

import logging

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth import authenticate
from app.errors import ApiError, api_problem, crash_problem
from app.models import new_id

log = logging.getLogger(__name__)


class RequestEdge:
    """Gives every response an `x-request-id`; turns what nobody caught into a 500 without internals."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  (the edge of the request)
            log.error("%s %s failed", request_id, scope["method"])
            response = crash_problem(scope["path"], error)
            if not started:  # otherwise the server sees an unfinished response and cuts the connection
                await response(scope, receive, send_marked)


class Authentication:
    """Turns away requests to the API without a valid key, before their body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            authorization = Headers(scope=scope).get("authorization")
            try:
                caller = await run_in_threadpool(authenticate, authorization)
            except ApiError as error:
                await api_problem(scope["path"], error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)
