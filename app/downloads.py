"""Blobs over HTTP: one place for ranges, validators and HEAD; and URLs that need no key because they are signed.

A signed URL is `/downloads/<sha256>/<name>?bytes=…&expires=…&signature=…`: an HMAC over path, size and expiry under a
secret that all processes share through the database. It lies outside `/v1`, where every request needs a key.
"""

import hashlib
import hmac
import re
import time
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from app.dependencies import ReadSession
from app.errors import Forbidden, problem, responses
from app.fields import is_current
from app.models import Secret
from app.shared_secret import shared_secret
from app.store import get_store

SECRET_NAME = "download-urls"  # noqa: S105  (its name, not its value)
VALID_FOR_S = 3_600
PARQUET = "application/vnd.apache.parquet"
ONE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})")
REFUSED: dict[int | str, Any] = {Forbidden.status: responses()[Forbidden.status]}

router = APIRouter(tags=["downloads"])
"""The only routes that need no key: whoever has the URL was given it by someone who had one."""


def blob_response(
    request: Request, sha256: str, bytes: int, media_type: str = "application/octet-stream", filename: str | None = None
) -> Response:
    """A blob of `bytes` bytes as the answer to GET or HEAD, whole or the one range that is asked for (RFC 9110).

    Several ranges at once, and units other than bytes, get the whole, as the standard allows.
    """
    etag = f'"{sha256}"'
    headers = {"etag": etag, "accept-ranges": "bytes", "content-disposition": _disposition(filename)}
    if is_current(request, etag):
        return Response(status_code=304, headers={"etag": etag})
    if request.method == "HEAD":
        return Response(media_type=media_type, headers={**headers, "content-length": str(bytes)})
    start, end = 0, bytes
    status = 200
    if request.headers.get("if-range", etag) == etag and (asked := _range(request.headers.get("range", ""), bytes)):
        start, end = asked
        if start >= end:
            detail = f"the range lies beyond the {bytes} bytes that there are"
            return problem(request, 416, detail, headers={"etag": etag, "content-range": f"bytes */{bytes}"})
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{bytes}"
    headers["content-length"] = str(end - start)
    return StreamingResponse(get_store().chunks(sha256, start, end), status, headers, media_type)


def signed_url(session: Session, base_url: str, sha256: str, bytes: int, name: str) -> str:
    """An absolute URL that gives the blob to whoever has it, for an hour."""
    path, expires = f"/downloads/{sha256}/{quote(name)}", int(time.time()) + VALID_FOR_S
    signature = _sign(shared_secret(session, SECRET_NAME), path, str(bytes), str(expires)).decode()
    query = urlencode({"bytes": bytes, "expires": expires, "signature": signature})
    return f"{base_url.rstrip('/')}{path}?{query}"


@router.head("/downloads/{sha256}/{name}", include_in_schema=False)
@router.get("/downloads/{sha256}/{name}", response_class=StreamingResponse, responses=REFUSED)
def download(
    request: Request,
    session: ReadSession,
    sha256: str,
    name: str,
    bytes: str = "",
    expires: str = "",
    signature: str = "",
) -> Response:
    """A blob by a signed URL, whole or a range of it; needs no key."""
    known = session.get(Secret, SECRET_NAME)
    path = f"/downloads/{sha256}/{quote(name)}"
    if known is None or not hmac.compare_digest(_sign(known.value, path, bytes, expires), signature.encode()):
        raise Forbidden("the URL is not one that this service signed: ask for it again", code="bad_signature")
    if int(expires) < time.time():
        raise Forbidden("the URL was valid for an hour, which is over: ask for it again", code="expired")
    return blob_response(request, sha256, int(bytes), PARQUET, name)


def _sign(secret: str, path: str, bytes: str, expires: str) -> bytes:
    return hmac.new(secret.encode(), f"{path}\n{bytes}\n{expires}".encode(), hashlib.sha256).hexdigest().encode()


def _range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range that is asked for, empty where none of it exists; None for the whole."""
    found = ONE_RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1 if last else size)


def _disposition(filename: str | None) -> str:
    return "attachment" if filename is None else f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
