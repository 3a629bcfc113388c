"""Conversations that are lists of turns: `messages` of the OpenAI API, and ShareGPT's `conversations`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from curation.formats.columns import resolve
from curation.formats.encodings import RecordError
from curation.formats.roles import IGNORE, ROLES, Speakers

MESSAGES, SHAREGPT = "messages", "sharegpt"
MAX_ID_CHARS = 512
MAX_NAME_SHOWN = 40


@dataclass(frozen=True)
class Record:
    """A conversation as it came in."""

    id: str | None
    messages: list[dict[str, Any]]
    user: str | None
    """Canonical JSON."""
    meta: str | None
    """Canonical JSON."""


def parse_conversation(value: object, speakers: Mapping[str, str]) -> Record:
    """Reads a conversation in the form of `messages`, or in ShareGPT's.

    Raises:
        RecordError: naming the field and what it should be.
    """
    if not isinstance(value, dict):
        raise RecordError(f"the record is a JSON {kind_of(value)}, not an object with `messages`")
    return parse_turns(value, Speakers(speakers), {})


def parse_turns(value: dict[str, Any], speakers: Speakers, given: Mapping[str, str]) -> Record:
    """The same, with the upload's own names of columns.

    Raises:
        RecordError: naming the field and what it should be.
    """
    key = turns_key(value, given) or "messages"
    turns = from_json(value.get(key))
    if not isinstance(turns, list) or not turns:
        raise RecordError(f"`{key}` must be a list of at least one {{role, content}}")
    parsed = [_message(turn, f"{key}[{index}]", speakers, given) for index, turn in enumerate(turns)]
    messages = [message for message in parsed if message is not None]
    if not messages:
        raise RecordError(f"`{key}` holds only ignored speakers")
    system = value.get("system")
    if isinstance(system, str) and system.strip():  # where ShareGPT's users keep it
        messages.insert(0, {"role": "system", "content": system, "weight": None})
    return Record(parse_id(value, given), messages, parse_object(value, "user"), parse_object(value, "meta"))


def turns_key(value: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
    """The member that holds the list of turns; None if there is none."""
    if isinstance(value.get("messages"), list):
        return "messages"
    found = resolve(map(str, value), ("messages",), given).get("messages")
    return found if found is not None and isinstance(from_json(value[found]), list) else None


def is_sharegpt(value: Mapping[str, Any], key: str) -> bool:
    """Whether the turns are `{from, value}`."""
    turns = from_json(value[key])
    return bool(turns) and isinstance(turns[0], dict) and "from" in turns[0]


def parse_id(value: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
    """The conversation's id, None where there is none.

    Raises:
        RecordError: it is no short text or number.
    """
    key = (
        "id" if "id" in value else next(iter(resolve(map(str, value), ("conversation_id", "id"), given).values()), "id")
    )
    found = value.get(key)
    if found is None or found == "":
        return None
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str) or len(found) > MAX_ID_CHARS:
        raise RecordError(f"`{key}` must be text of at most {MAX_ID_CHARS} characters")
    return found


def parse_object(value: Mapping[str, Any], field: str) -> str | None:
    """The members of `user` or `meta` that are known, as canonical JSON.

    Raises:
        RecordError: it is no object.
    """
    member = from_json(value.get(field) or next((value[n] for n in resolve(value, (field,), {}).values()), None))
    if member is None or member == "":
        return None
    if not isinstance(member, dict):
        raise RecordError(f"`{field}` must be an object")
    return canonical_json({key: item for key, item in member.items() if item is not None and item != []})


def canonical_json(value: dict[str, Any]) -> str | None:
    """Sorted keys, no white space; None for an object without members.

    Raises:
        RecordError: lists or objects lie in it too deeply to be written.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode() if value else None
    except orjson.JSONEncodeError:
        raise RecordError("`user` and `meta` must not be nested more than 250 deep") from None


def from_json(value: object) -> Any:
    """What a cell holds: CSV and Parquet keep lists and objects as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def role_for(speaker: object, where: str, speakers: Speakers) -> str:
    """The speaker's role, or `ignore`.

    Raises:
        RecordError: no speaker, or an unknown one.
    """
    if not isinstance(speaker, str) or not speaker.strip():
        raise RecordError(f"`{where}` must be one of {', '.join(ROLES)}")
    role = speakers.role_of(speaker)
    if role is None:
        shown = speaker[:MAX_NAME_SHOWN]
        raise RecordError(f"`{where}` {shown!r} is an unknown speaker: map it with the upload's `speakers` field")
    return role


def kind_of(value: object) -> str:
    """What JSON calls a value."""
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), "value")


def _message(turn: object, where: str, speakers: Speakers, given: Mapping[str, str]) -> dict[str, Any] | None:
    if not isinstance(turn, dict):
        raise RecordError(f"`{where}` must be an object with role and content")
    if "role" in turn and "content" in turn:
        speaker_key, text_key = "role", "content"
    elif "from" in turn and "value" in turn:
        speaker_key, text_key = "from", "value"
    else:
        found = resolve(map(str, turn), ("speaker", "text"), given)
        speaker_key, text_key = found.get("speaker", "role"), found.get("text", "content")
    role = role_for(turn.get(speaker_key), f"{where}.{speaker_key}", speakers)
    if role == IGNORE:
        return None
    weight = turn.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise RecordError(f"`{where}.weight` must be 0 or 1")
    content = _content(turn.get(text_key), f"{where}.{text_key}")
    return {"role": role, "content": content, "weight": None if weight is None else int(weight)}


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        if len(texts) == len(content):
            return "".join(texts)
    raise RecordError(f"`{where}` must be text, or a list of parts of type text")
