"""The rules of files: what one may be called, be for, and say of its speakers and columns; however its bytes come."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sqlalchemy.orm import Session

from app.errors import BadRequest, Unprocessable
from app.models import File, Json, new_id
from app.queue import add_work
from app.settings import get_settings
from app.store import BlobRef

Purpose = Literal["fine-tune", "conversations", "labels", "pairs", "preferences", "lexicon"]
ROLES = ("user", "assistant", "system", "ignore")
MAX_FILENAME = 255
MAX_NAMES = 1000


@dataclass(frozen=True)
class About:
    """What is said of a file beside its bytes."""

    filename: str
    purpose: str
    speakers: Json
    columns: Json


def read_about(filename: str | None, purpose: str, speakers: str | None, columns: str | None, param: str) -> About:
    """Reads what a request says of a file; `param` is where it names the file.

    Raises:
        BadRequest: the name is too long.
        Unprocessable: there is no such purpose, or a map is none.
    """
    if purpose not in get_args(Purpose):
        raise Unprocessable(f"purpose: one of {', '.join(get_args(Purpose))}", param="purpose")
    return About(_filename(filename, param), purpose, _speakers(speakers), _columns(columns))


def add_file(session: Session, blob: BlobRef, about: About) -> File:
    """Records a file whose bytes are stored, and its ingest."""
    row = File(
        id=new_id("file"), bytes=blob.bytes, sha256=blob.sha256, **vars(about), status="uploaded", detection={},
        counts={}, warnings=[],
    )  # fmt: skip
    session.add(row)
    add_work(session, "ingest", row.id)
    session.flush()
    return row


def _filename(given: str | None, param: str) -> str:
    """The name alone, whatever path it came with; `upload` where nothing is left of it."""
    filename = Path((given or "").replace("\\", "/")).name.strip(".") or "upload"
    if len(filename) > MAX_FILENAME:
        raise BadRequest(f"the file's name is longer than {MAX_FILENAME} characters", param=param)
    if "\x00" in filename:
        raise Unprocessable(f"{param}: the file's name must not contain the character NUL", param=param)
    return filename


def check_size(size: int | None, param: str) -> None:
    """Refuses a file of nothing and one that is too large.

    Raises:
        BadRequest: it is.
    """
    if not size:
        raise BadRequest("the file is empty", param=param, code="empty_file")
    if size > get_settings().max_upload_bytes:
        raise BadRequest(f"the file is larger than {get_settings().max_upload_bytes} bytes", param=param)


def _speakers(text: str | None) -> dict[str, str]:
    """A JSON map of speakers to roles."""
    mapping = _mapping(text, "speakers")
    if any(role not in ROLES for role in mapping.values()):
        raise Unprocessable(f"speakers: each name must map to one of {', '.join(ROLES)}", param="speakers")
    return mapping


def _columns(text: str | None) -> dict[str, str]:
    """A JSON map of a file's column names to ours."""
    from curation.errors import InputError
    from curation.formats.columns import canonical

    mapping = _mapping(text, "columns")
    try:
        return {theirs: canonical(ours) for theirs, ours in mapping.items()}
    except InputError as error:
        raise Unprocessable(str(error), param="columns") from None


def _mapping(text: str | None, field: str) -> dict[str, str]:
    """A form field that is a JSON object of names to names.

    Raises:
        Unprocessable: it is none, or says two things of one name.
    """
    if not text:
        return {}

    def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if repeated := sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1):
            raise Unprocessable(f"{field}: {repeated[0][:40]!r} is there twice", param=field)
        return dict(pairs)

    try:
        mapping = json.loads(text, object_pairs_hook=without_repetition) if len(text) < 100_000 else None
    except (json.JSONDecodeError, RecursionError):
        mapping = None
    if not isinstance(mapping, dict) or len(mapping) > MAX_NAMES or "\x00" in text or "\\u0000" in text:
        raise Unprocessable(f"{field}: must be a JSON object of at most {MAX_NAMES} names", param=field)
    if not all(isinstance(value, str) for value in mapping.values()):
        raise Unprocessable(f"{field}: each name must map to a text", param=field)
    return mapping
