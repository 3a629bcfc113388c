"""Records of the learned filters' files: labels, pairs, preferences; and of word lists."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.formats.columns import resolve
from curation.formats.encodings import RecordError
from curation.formats.messages import from_json, kind_of, parse_turns
from curation.formats.roles import Speakers
from curation.segments import MESSAGES

MAX_WORD_CHARS = 200
MAX_LABEL_CHARS = 100


@dataclass(frozen=True)
class Kind:
    """A purpose's columns: what a record must have, how it is read, how it is stored."""

    fields: tuple[str, ...]
    parse: Callable[[dict[str, Any]], dict[str, Any]]
    """From our fields to the stored columns; raises RecordError."""
    schema: pl.Schema

    def read(self, value: object, given: Mapping[str, str]) -> dict[str, Any]:
        """One record.

        Raises:
            RecordError: naming the field and what it should be.
        """
        if not isinstance(value, dict):
            raise RecordError(f"the record is a JSON {kind_of(value)}, not an object with {_listed(self.fields)}")
        names = resolve(map(str, value), self.fields, given)
        return self.parse({ours: value[name] for ours, name in names.items()})


def read_words(segments: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Words and allowed phrases of an ingested lexicon, each once, in order."""
    frame = pl.concat([pl.read_parquet(path) for path in segments] or [pl.DataFrame(schema=KINDS["lexicon"].schema)])
    unique = frame.unique(["word", "allowed"], keep="first", maintain_order=True)
    return unique.filter(~pl.col("allowed"))["word"].to_list(), unique.filter("allowed")["word"].to_list()


def _label(record: dict[str, Any]) -> dict[str, Any]:
    label = record.get("label")
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if label is None or isinstance(label, list | dict | float) or not (shown := str(label).strip()):
        raise RecordError("`label` must be text or a whole number")
    if len(shown) > MAX_LABEL_CHARS:
        raise RecordError(f"`label` must have at most {MAX_LABEL_CHARS} characters")
    return {"text": _text(record, "text"), "label": shown}


def _pair(record: dict[str, Any]) -> dict[str, Any]:
    written = record.get("written")
    if not isinstance(written, str):
        raise RecordError("`written` must be text")
    return {"spoken": _text(record, "spoken"), "written": written}


def _preference(record: dict[str, Any]) -> dict[str, Any]:
    messages = from_json(record.get("messages"))
    if messages is None:
        messages = [{"role": "user", "content": _text(record, "instruction")}]
    parsed = parse_turns({"messages": messages, "system": record.get("system")}, Speakers(), {})
    chosen, rejected = (_reply(record.get(field), field) for field in ("chosen", "rejected"))
    if chosen == rejected:
        raise RecordError("`chosen` and `rejected` are the same")
    return {"messages": parsed.messages, "chosen": chosen, "rejected": rejected}


def _word(record: dict[str, Any]) -> dict[str, Any]:
    word, allow = record.get("word"), record.get("allow")
    if not word and isinstance(allow, str) and allow.strip():
        return {"word": _short(allow, "allow"), "allowed": True}
    return {"word": _short(word, "word"), "allowed": False}


def _short(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_WORD_CHARS or "\x00" in value:
        raise RecordError(f"`{where}` must be text of 1 to {MAX_WORD_CHARS} characters")
    return value.strip()


def _text(record: Mapping[str, Any], field: str) -> str:
    text = record.get(field)
    if not isinstance(text, str) or not text.strip():
        raise RecordError(f"`{field}` must be text that is not empty")
    return text


def _reply(value: object, field: str) -> str:
    """A reply as text, as a message, or as the list of messages that it ends."""
    reply = from_json(value)
    if isinstance(reply, list) and reply:
        reply = reply[-1]
    if isinstance(reply, dict):
        reply = reply.get("content", reply.get("value"))
    if not isinstance(reply, str) or not reply.strip():
        raise RecordError(f"`{field}` must be the text of a reply, or a message")
    return reply


def _listed(fields: tuple[str, ...]) -> str:
    return ", ".join(f"`{field}`" for field in fields)


KINDS = {
    "labels": Kind(
        ("text", "label"), _label, pl.Schema({"line": pl.Int64, "text": pl.String, "label": pl.String})
    ),
    "pairs": Kind(
        ("spoken", "written"), _pair, pl.Schema({"line": pl.Int64, "spoken": pl.String, "written": pl.String})
    ),
    "preferences": Kind(
        ("messages", "instruction", "system", "chosen", "rejected"),
        _preference,
        pl.Schema([("line", pl.Int64), ("messages", MESSAGES), ("chosen", pl.String), ("rejected", pl.String)]),
    ),
    "lexicon": Kind(("word", "allow"), _word, pl.Schema({"line": pl.Int64, "word": pl.String, "allowed": pl.Boolean})),
}  # fmt: skip
"""By purpose."""
