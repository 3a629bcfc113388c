"""Types of request fields: what is accepted can be stored by every database and sent back as JSON."""

import json
from typing import Annotated

import orjson
from fastapi import Path, Query
from pydantic import AfterValidator, JsonValue, StringConstraints


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    return text


def _storable(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        text = json.dumps(value, allow_nan=False)
        orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must be plain JSON: finite numbers of 64 bits, valid Unicode, not too deep") from None
    if "\\u0000" in text:
        raise ValueError("must not contain the character NUL")
    return value


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_without_nul)
]
Note = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_without_nul)]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_storable)]
"""A free-form object."""

FILE_ID, DATASET_ID, VERSION_ID, LEXICON_ID, JOB_ID, KEY_ID, EVENT_ID, CHECKPOINT_ID = (
    f"^{prefix}-[0-9a-f]{{24}}$" for prefix in ("file", "ds", "ver", "lex", "ftjob", "key", "ftevent", "ftckpt")
)
FileId = Annotated[str, Path(pattern=FILE_ID)]
DatasetId = Annotated[str, Path(pattern=DATASET_ID)]
VersionId = Annotated[str, Path(pattern=VERSION_ID)]
LexiconId = Annotated[str, Path(pattern=LEXICON_ID)]
JobId = Annotated[str, Path(pattern=JOB_ID)]
KeyId = Annotated[str, Path(pattern=KEY_ID)]
Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of a page.")]
After = Annotated[
    str | None, Query(max_length=100, pattern=r"^[a-z]+-[\w-]+$", description="The `last_id` of the page before.")
]
AfterNumber = Annotated[int | None, Query(ge=0, lt=2**63, description="The `last_id` of the page before.")]
