"""Conversations in the `messages` form of the OpenAI API, one JSON object a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from curation.formats.roles import IGNORE, ROLES, role_of

NAME = "messages"
MAX_ID_CHARS = 512
MAX_NAME_SHOWN = 40


class RecordError(ValueError):
    """A record that cannot be a conversation; the message is its reason in the quarantine."""


@dataclass(frozen=True)
class Record:
    """A conversation as it came in."""

    id: str | None
    messages: list[dict[str, Any]]
    user: str | None
    """Canonical JSON."""
    meta: str | None
    """Canonical JSON."""


def parse_record(line: bytes, speakers: Mapping[str, str]) -> Record:
    """Reads one line.

    Raises:
        RecordError: naming the field and what it should be.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordError(_why_not_json(line, error)) from None
    if not isinstance(value, dict):
        raise RecordError(f"the record is a JSON {_kind(value)}, not an object with `messages`")
    turns = value.get("messages")
    if not isinstance(turns, list) or not turns:
        raise RecordError("`messages` must be a list of at least one {role, content}")
    parsed = [_message(turn, f"messages[{index}]", speakers) for index, turn in enumerate(turns)]
    messages = [message for message in parsed if message is not None]
    if not messages:
        raise RecordError("`messages` holds only ignored speakers")
    return Record(_id(value.get("id")), messages, _object(value, "user"), _object(value, "meta"))


def _message(turn: object, where: str, speakers: Mapping[str, str]) -> dict[str, Any] | None:
    if not isinstance(turn, dict):
        raise RecordError(f"`{where}` must be an object with role and content")
    speaker = turn.get("role")
    if not isinstance(speaker, str) or not speaker.strip():
        raise RecordError(f"`{where}.role` must be one of {', '.join(ROLES)}")
    role = role_of(speaker, speakers)
    if role is None:
        shown = speaker[:MAX_NAME_SHOWN]
        raise RecordError(f"`{where}.role` {shown!r} is an unknown speaker: map it with the upload's `speakers` field")
    if role == IGNORE:
        return None
    weight = turn.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise RecordError(f"`{where}.weight` must be 0 or 1")
    return {"role": role, "content": _content(turn.get("content"), where), "weight": weight}


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        if len(texts) == len(content):
            return "".join(texts)
    raise RecordError(f"`{where}.content` must be text, or a list of parts of type text")


def _id(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or len(value) > MAX_ID_CHARS:
        raise RecordError(f"`id` must be text of at most {MAX_ID_CHARS} characters")
    return value


def _object(value: dict[str, Any], field: str) -> str | None:
    member = value.get(field)
    if member is None:
        return None
    if not isinstance(member, dict):
        raise RecordError(f"`{field}` must be an object")
    return orjson.dumps(member, option=orjson.OPT_SORT_KEYS).decode()


def _why_not_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return f"not valid UTF-8 at byte {bad.start}: save the file as UTF-8"
    return f"not valid JSON at column {error.colno}"


def _kind(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names[type(value)]
