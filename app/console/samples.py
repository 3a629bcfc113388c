"""The first conversations of a file, as they came in: to look at, and to try a recipe on."""

from typing import Any

from sqlalchemy.orm import Session

from app.files.repository import raw_segments
from app.store import get_store


def first_conversations(session: Session, file_id: str, limit: int, skip: int = 0) -> list[dict[str, Any]]:
    """At most `limit` conversations of a file behind the first `skip`, all from one segment; none before ingest."""
    import polars as pl

    from curation.browse import show_original

    segments = raw_segments(session, file_id)
    while segments and skip >= segments[0].conversations:
        skip -= segments.pop(0).conversations
    if not segments:
        return []
    rows = pl.scan_parquet(get_store().path(segments[0].sha256)).slice(skip, limit).collect().to_dicts()
    return [show_original(row, row["id"]) for row in rows]
