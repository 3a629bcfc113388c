"""Conversations in Alpaca's form: an instruction with an optional input, an output, and earlier pairs as history.

An empty side of a pair means that there is no such turn, so that conversations which an agent opens, or whose last
question has no answer, fit in too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from curation.formats.columns import resolve
from curation.formats.encodings import RecordError
from curation.formats.messages import Record, from_json, parse_id, parse_object

ALPACA = "alpaca"
FIELDS = ("instruction", "input", "output", "history", "system")


def is_alpaca(value: Mapping[str, Any], given: Mapping[str, str]) -> bool:
    """Whether a record has an instruction and an output."""
    return {"instruction", "output"} <= resolve(map(str, value), FIELDS, given).keys()


def parse_alpaca(value: dict[str, Any], given: Mapping[str, str]) -> Record:
    """Reads one record.

    Raises:
        RecordError: naming the field and what it should be.
    """
    names = resolve(map(str, value), FIELDS, given)
    if not {"instruction", "output"} <= names.keys():
        raise RecordError("the record must have `instruction` and `output`")
    texts = {field: _text(value[names[field]], names[field]) for field in names if field != "history"}
    asked = "\n".join(filter(None, (texts["instruction"], texts.get("input", ""))))
    history = from_json(value[names["history"]]) if "history" in names else None
    pairs = [*_pairs(history, names.get("history", "")), (asked, texts["output"])]
    turns = [("system", texts.get("system", ""))]
    turns += [turn for user, assistant in pairs for turn in (("user", user), ("assistant", assistant))]
    messages = [{"role": role, "content": text, "weight": None} for role, text in turns if text]
    if not any(message["role"] != "system" for message in messages):
        raise RecordError(f"`{names['instruction']}` and `{names['output']}` are both empty")
    return Record(parse_id(value, given), messages, parse_object(value, "user"), parse_object(value, "meta"))


def _pairs(history: object, where: str) -> Iterator[tuple[str, str]]:
    if history is None or history == "":
        return
    if not isinstance(history, list):
        raise RecordError(f"`{where}` must be a list of [question, answer]")
    for index, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise RecordError(f"`{where}[{index}]` must be [question, answer]")
        yield _text(pair[0], f"{where}[{index}][0]"), _text(pair[1], f"{where}[{index}][1]")


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RecordError(f"`{where}` must be text")
    return value
