"""Tokens of versions, counted by tags: a segment's text is tokenised at the first request, and its counts are kept.

They are known by the segment's content and the tokenizer's, so another version with the same segment has them too, and
a request that is broken off goes on where it was.
"""

import hashlib
import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from app.db import insert, reading, writing
from app.models import KnownResult
from app.store import get_store

if TYPE_CHECKING:
    import polars as pl

COUNTING_VERSION = 1
"""Raised when other tokens are counted."""


def token_counts(manifest: dict[str, Any], tokenizer: str | None) -> "pl.DataFrame":
    """The tokens of a version's segments, as `curation.statistics.count_tokens` gives them."""
    return _counts(tuple(part["sha256"] for part in manifest["segments"]), tokenizer)


@lru_cache(maxsize=8)
def _counts(segments: tuple[str, ...], tokenizer: str | None) -> "pl.DataFrame":
    from curation.statistics import add_counts, count_tokens
    from trainer.dialogues import PACKAGED, load_chat_tokenizer

    fingerprint = load_chat_tokenizer(tokenizer or PACKAGED).fingerprint
    return add_counts(
        [count_tokens([], tokenizer), *(_of_segment(sha256, tokenizer, fingerprint) for sha256 in segments)]
    )


def _of_segment(sha256: str, tokenizer: str | None, fingerprint: str) -> "pl.DataFrame":
    import polars as pl

    from curation.statistics import count_tokens

    key = hashlib.sha256(orjson.dumps(["tokens", COUNTING_VERSION, sha256, fingerprint])).hexdigest()
    with reading() as session:
        known = session.get(KnownResult, key)
    store = get_store()
    if known is not None:
        return pl.read_parquet(store.path(known.result["sha256"]))
    counts = count_tokens([store.path(sha256)], tokenizer)
    written = io.BytesIO()
    counts.write_parquet(written)
    written.seek(0)
    result = {"sha256": store.put(written).sha256}
    with writing() as session:
        session.execute(insert(KnownResult).values(key=key, result=result).on_conflict_do_nothing())
    return counts
