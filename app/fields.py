"""Types of request fields: what they accept, every database can store and every answer can hold."""

import json
from typing import Annotated, Any

import orjson
from fastapi import Request
from pydantic import AfterValidator, Field, StringConstraints


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    return text


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False)
        orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must be plain JSON: finite numbers of 64 bits, valid Unicode, not too deep") from None
    if "\\u0000" in text:
        raise ValueError("must not contain the character NUL")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_without_nul)
]
Note = Annotated[Text, Field(max_length=10_000)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]
"""A free-form object, such as a recipe."""


def is_current(request: Request, etag: str) -> bool:
    """Whether the client has this very representation (RFC 9110, 13.1.2)."""
    names = {name.strip().removeprefix("W/") for name in request.headers.get("if-none-match", "").split(",")}
    return etag in names or "*" in names
