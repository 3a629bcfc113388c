"""What goes wrong over HTTP, as RFC 9457 problems with the OpenAI error beside.

ApiError
├── BadRequest 400       ├── NotFound 404       ├── Unprocessable 422
├── Unauthorized 401     ├── TooSlow 408        ├── TooManyRequests 429 (`Retry-After`)
├── Forbidden 403        ├── TooLarge 413       └── Unavailable 503
└── Conflict 409 (permanent: `x-should-retry: false`)
"""

import logging
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from starlette.exceptions import HTTPException

from app.store import StoreUnavailableError

log = logging.getLogger(__name__)

OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}

OUTAGES = (OperationalError, NoConnectionLeft, StoreUnavailableError)


class OpenAIError(BaseModel):
    """The error as the OpenAI client reads it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """`application/problem+json`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    error: OpenAIError


class ApiError(Exception):
    """An answer that is an error."""

    status = 500

    def __init__(self, detail: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail, self.param, self.code = detail, param, code


class BadRequest(ApiError):  # noqa: N818  (named after its status)
    """The request cannot be read."""

    status = 400


class Unauthorized(ApiError):  # noqa: N818
    """No valid key."""

    status = 401


class Forbidden(ApiError):  # noqa: N818
    """The key lacks the scope."""

    status = 403


class NotFound(ApiError):  # noqa: N818
    """There is no such thing."""

    status = 404


class Conflict(ApiError):  # noqa: N818
    """The thing's state forbids it; when that is `permanent`, clients are told not to try again."""

    status = 409

    def __init__(
        self, detail: str, *, param: str | None = None, code: str | None = None, permanent: bool = True
    ) -> None:
        super().__init__(detail, param=param, code=code)
        self.permanent = permanent


class Unprocessable(ApiError):  # noqa: N818
    """A field is wrong; `param` names it."""

    status = 422


class TooSlow(ApiError):  # noqa: N818
    """The body stopped coming."""

    status = 408


class TooLarge(ApiError):  # noqa: N818
    """The body is larger than this route takes."""

    status = 413


class TooManyRequests(ApiError):  # noqa: N818
    """More requests than are listened to; `Retry-After` says when it is worth trying again."""

    status = 429

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail, code="rate_limit_exceeded")
        self.retry_after_s = retry_after_s


class Unavailable(ApiError):  # noqa: N818
    """A part of the service is away for now."""

    status = 503


def responses(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, and those that any route may have, for its OpenAPI description."""
    kinds: tuple[type[ApiError], ...] = (*errors, Unauthorized, Forbidden, Unprocessable, TooManyRequests, Unavailable)
    return {
        error.status: {
            "description": (error.__doc__ or "").strip(),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for error in kinds
    }


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem, and describes what that is in `/openapi.json`."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    describe = app.openapi

    def with_problem() -> dict[str, Any]:
        description = describe()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        description["components"]["schemas"] |= {**schema.pop("$defs"), "Problem": schema}
        for operation in (operation for path in description["paths"].values() for operation in path.values()):
            if "requestBody" in operation:
                of_body = {str(status): told for status, told in responses(BadRequest, TooSlow, TooLarge).items()}
                operation["responses"] = {**of_body, **operation["responses"]}
        return description

    app.openapi = with_problem  # type: ignore[method-assign]


def problem(
    request: Request, status: int, detail: str, *, param: str | None = None, code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """The answer that tells an error."""
    kind = OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        error=OpenAIError(message=detail, type=kind, param=param, code=code),
    )
    return JSONResponse(body.model_dump(), status, media_type="application/problem+json", headers=dict(headers or {}))


def unexpected(request: Request, error: Exception) -> JSONResponse:
    """What no route foresaw: a part that is away, a value that no database takes, or a fault of ours."""
    if isinstance(error, OUTAGES):
        log.warning("%s on %s %s", type(error).__name__, request.method, request.scope.get("path_format", ""))
        part = "store" if isinstance(error, StoreUnavailableError) else "database"
        detail = f"the service's {part} does not answer: try again in a moment"
        return problem(request, 503, detail, code=f"{part}_unavailable", headers={"Retry-After": "2"})
    if isinstance(error, DataError):
        detail = "a value cannot be stored: texts must not contain the character NUL, numbers must fit in 64 bits"
        return problem(request, 422, detail, code="invalid_value")
    if isinstance(error, IntegrityError):
        detail = "something that this request needs was changed or deleted by another at the same time: try again"
        return problem(request, 409, detail, code="changed_meanwhile")
    return internal_error(request, error)


def internal_error(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: its type and frames are logged, since its message may quote a user's text."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s on %s %s\n%s", type(error).__name__, request.method, request.scope.get("path_format", ""), frames)
    return problem(request, 500, "internal error: please report the x-request-id", code="internal_error")


def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return api_error(request, error)


def api_error(request: Request, error: ApiError) -> JSONResponse:
    """The answer that tells an error of ours."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if isinstance(error, Conflict) and error.permanent:
        headers["x-should-retry"] = "false"
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_s)
    return problem(request, error.status, error.detail, param=error.param, code=error.code, headers=headers)


def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if any(item["loc"][0] == "path" for item in error.errors()):
        return problem(request, 404, "the id in the address names nothing", code="not_found")
    param = _param(first["loc"])
    return problem(request, 422, f"{param or 'body'}: {first['msg']}", param=param, code="invalid_value")


def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(request, error.status_code, str(error.detail), headers=error.headers)


def _param(location: Sequence[str | int]) -> str | None:
    """A location such as ("body", "files", 0) as `files[0]`."""
    path = ""
    for part in location[1:]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or None
