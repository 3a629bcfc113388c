"""What the service answers when it cannot do what was asked: problem+json with OpenAI's error member beside.

ApiError
├── BadRequestError        400
├── UnauthenticatedError   401
├── ForbiddenError         403
├── NotFoundError          404
├── ConflictError          409   may pass (a version still running)
├── PermanentConflictError 409   never passes; clients are told not to retry
├── UnprocessableError     422
├── TooManyRequestsError   429
├── UnavailableError       503
└── TimedOutError          504
"""

import logging
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, JsonValue
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

MAX_PARAM_CHARS = 200
MAX_LISTED_ERRORS = 20


class OpenAIError(BaseModel):
    """The error as the OpenAI clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: OpenAIError


PROBLEMS: dict[int | str, dict[str, object]] = {"4XX": {"model": Problem}, "5XX": {"model": Problem}}
"""The `responses` of every route."""


class ApiError(Exception):
    """Base of what a route may raise; the message is for the user."""

    status: ClassVar[HTTPStatus]
    code: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, *, param: str | None = None, **members: JsonValue) -> None:
        super().__init__(detail)
        self.detail = detail
        self.param = param
        """The field of the request that is at fault."""
        self.members = members
        """Further members of the problem."""


class BadRequestError(ApiError):
    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"


class UnauthenticatedError(ApiError):
    status = HTTPStatus.UNAUTHORIZED
    code = "invalid_api_key"
    headers: ClassVar[Mapping[str, str]] = {"www-authenticate": "Bearer"}


class ForbiddenError(ApiError):
    status = HTTPStatus.FORBIDDEN
    code = "insufficient_scope"


class NotFoundError(ApiError):
    status = HTTPStatus.NOT_FOUND
    code = "not_found"


class ConflictError(ApiError):
    status = HTTPStatus.CONFLICT
    code = "conflict"


class PermanentConflictError(ConflictError):
    headers: ClassVar[Mapping[str, str]] = {"x-should-retry": "false"}


class UnprocessableError(ApiError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_value"


class TooManyRequestsError(ApiError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_requests"


class UnavailableError(ApiError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"


class TimedOutError(ApiError):
    status = HTTPStatus.GATEWAY_TIMEOUT
    code = "timed_out"


def problem(
    path: str,
    status: int,
    detail: str,
    *,
    code: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, JsonValue] | None = None,
) -> JSONResponse:
    """A problem+json response."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = {
        **(members or {}),
        "type": f"urn:talkmill:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path,
        "error": {"message": detail, "type": kind, "param": param, "code": code},
    }
    return JSONResponse(body, status, dict(headers or {}), media_type="application/problem+json")


def api_problem(path: str, error: ApiError) -> JSONResponse:
    """The response to an `ApiError`."""
    return problem(
        path,
        error.status,
        error.detail,
        code=error.code,
        param=error.param,
        headers=error.headers,
        members=error.members,
    )


def crash_problem(path: str, error: Exception) -> JSONResponse:
    """The response to a fault of ours. Only type and frames are logged: messages may hold what users wrote."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("%s at %s", type(error).__qualname__, " < ".join(reversed(frames)))
    return problem(path, 500, "the service failed; the x-request-id names this request in its log", code="internal")


def name_param(location: Sequence[int | str]) -> str | None:
    """A field's place as users write it: `messages[0].content`."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".")[:MAX_PARAM_CHARS] or None


def register(app: FastAPI) -> None:
    """Makes every error of the application a problem."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return api_problem(request.url.path, error)


def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """What the router and the body parsers raise."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    details = {
        404: "there is no such route",
        405: f"this route does not take {request.method}",
        413: "the request is larger than this route takes",
    }
    detail = details.get(error.status_code, str(error.detail))
    code = codes.get(error.status_code, "bad_request")
    return problem(request.url.path, error.status_code, detail, code=code, headers=error.headers)


def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    """A field of the wrong shape: 422 naming it; an id in the path that cannot be one: 404."""
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(item["loc"][0] == "path" for item in errors):
        return api_problem(request.url.path, NotFoundError("the id in the address names nothing"))
    if errors[0]["type"] == "json_invalid":
        return api_problem(request.url.path, BadRequestError("the body is not valid JSON"))
    listed: list[JsonValue] = [
        {"param": name_param(item["loc"][1:]), "message": item["msg"]} for item in errors[:MAX_LISTED_ERRORS]
    ]
    param = name_param(errors[0]["loc"][1:])
    detail = f"{param or 'the body'}: {errors[0]['msg']}"
    return api_problem(request.url.path, UnprocessableError(detail, param=param, errors=listed))
