"""Strong ETags of what never changes."""

import hashlib

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel


def not_modified(request: Request, etag: str) -> Response | None:
    """A 304 when the client has this very representation."""
    given = request.headers.get("if-none-match", "")
    names = {name.strip().removeprefix("W/") for name in given.split(",")}
    if etag in names or "*" in names:
        return Response(status_code=304, headers={"etag": etag})
    return None


def immutable(request: Request, body: BaseModel) -> Response:
    """A resource that will never change, with its ETag; or a 304."""
    content = body.model_dump(mode="json", by_alias=True)
    response = JSONResponse(content)
    etag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
    response.headers["etag"] = etag
    return not_modified(request, etag) or response
