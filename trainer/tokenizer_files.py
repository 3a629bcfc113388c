"""What a tokenizer's files say: its marks, the same tokenizer without them, its chat template."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from trainer.chat_template import DialogueError

_BRACKETED = re.compile(r"<.+>|\[.+\]", re.DOTALL)


@dataclass(frozen=True)
class Mark:
    """A token of the template's own."""

    id: int
    lstrip: bool
    rstrip: bool


def parse_tokenizer(tokenizer_json: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json; raises DialogueError where it is damaged."""
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # noqa: BLE001  (the library raises nothing more special)
        raise DialogueError(f"tokenizer.json is damaged: {error}") from None


def find_marks(tokenizer: Tokenizer) -> dict[str, Mark]:
    """Special tokens, and added ones in brackets: families of models differ in which of their marks are special."""
    return {
        token.content: Mark(index, token.lstrip, token.rstrip)
        for index, token in tokenizer.get_added_tokens_decoder().items()
        if token.special or _BRACKETED.fullmatch(token.content)
    }


def without_marks(parts: dict[str, Any], marks: dict[str, Mark]) -> Tokenizer:
    """The tokenizer for what messages say; it has no marks to recognise."""
    words = [token for token in parts["added_tokens"] if token["content"] not in marks]
    plain = Tokenizer.from_str(json.dumps({**parts, "added_tokens": words, "post_processor": None}))
    if any(plain.token_to_id(word["content"]) != word["id"] for word in words):
        plain = Tokenizer.from_str(json.dumps({**parts, "added_tokens": [], "post_processor": None}))
    return plain


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's tokenizer_config.json; empty where there is none."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return config if isinstance(config, dict) else {}


def read_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template, of its own file or of the config; None where there is none."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text("utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def token_text(token: object) -> str | None:
    """The text of a token as configs name it, plain or with its properties."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def is_byte_level(parts: dict[str, Any]) -> bool:
    """Whether no text is more tokens than it has UTF-8 bytes."""
    steps = json.dumps(parts.get("pre_tokenizer"))
    normalises = parts.get("normalizer") not in (None, {"type": "Sequence", "normalizers": []})
    return parts["model"]["type"] == "BPE" and '"ByteLevel"' in steps and not normalises
