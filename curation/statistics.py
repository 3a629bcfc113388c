"""Tag statistics of a version: cross-tabulation, filters, metrics; straight from the columns of its segments."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import CurationError
from trainer.dialogues import PACKAGED, load_chat_tokenizer

FIELDS = ("age_band", "gender", "province", "city", "country", "crowd")
METRICS = ("conversations", "users", "turns", "characters", "tokens")
MULTI_VALUED = ("crowd",)
UNKNOWN = "unknown"


def tag_statistics(
    segments: Sequence[Path],
    *,
    by: Sequence[str],
    where: Iterable[tuple[str, str]] = (),
    metric: str = "conversations",
    tokenizer: str | None = None,
) -> dict[str, Any]:
    """Counts by tags. Unknown values are a row of their own; `share` is of `total`.

    A conversation with several crowds counts once in each crowd's row and once in `total`. Repeated `where` on one
    field is OR, on several AND. `users` counts distinct user ids; a conversation without one is its own user.

    Raises:
        CurationError: an unknown field or metric.
    """
    conditions = list(where)
    for field in (*by, *(field for field, _ in conditions)):
        if field not in FIELDS:
            raise CurationError(f"unknown field {field}: any of {', '.join(FIELDS)}")
    if metric not in METRICS:
        raise CurationError(f"unknown metric {metric}: any of {', '.join(METRICS)}")
    if not by or len(set(by)) != len(by):
        raise CurationError("`by` names at least one field, each once")
    name = tokenizer or PACKAGED
    conversations = pl.concat([_conversations(path, metric, name) for path in segments]) if segments else _nothing()
    wanted: dict[str, list[str]] = {}
    for field, value in conditions:
        wanted.setdefault(field, []).append(value)
    for field, values in wanted.items():
        column = pl.col(field)
        hit = column.list.eval(pl.element().is_in(values)).list.any() if field in MULTI_VALUED else column.is_in(values)
        conversations = conversations.filter(hit)
    amount = (pl.col("user_key").n_unique() if metric == "users" else pl.col("value").sum()).cast(pl.Int64)
    total = int(conversations.select(amount).collect(engine="streaming").item() or 0)
    exploded = conversations
    for field in by:
        if field in MULTI_VALUED:
            exploded = exploded.explode(field)
    counted = exploded.group_by(*by).agg(amount.alias("value")).sort(*by).collect(engine="streaming")
    rows = [{**row, "share": round(row["value"] / total, 6) if total else 0.0} for row in counted.to_dicts()]
    answer: dict[str, Any] = {"by": list(by), "metric": metric, "total": total, "rows": rows}
    if several := [field for field in by if field in MULTI_VALUED]:
        answer["multi_valued"] = several
    if metric == "tokens":
        answer["tokenizer"] = name
    return answer


def _conversations(path: Path, metric: str, tokenizer: str) -> pl.LazyFrame:
    """One row a conversation: its tags, the key of its user, and what the metric adds up."""
    user = pl.col("user").struct
    tags = [user.field(field).fill_null(UNKNOWN).alias(field) for field in FIELDS if field not in MULTI_VALUED]
    crowd = user.field("crowd").fill_null([])
    crowds = pl.when(crowd.list.len() == 0).then(pl.lit([UNKNOWN])).otherwise(crowd).alias("crowd")
    own = pl.concat_str(pl.lit("conversation:"), "conversation_id")
    key = pl.coalesce(pl.concat_str(pl.lit("user:"), user.field("id")), own).alias("user_key")
    frame = pl.scan_parquet(path)
    if metric == "tokens":
        return _with_tokens(frame, tokenizer).select(*tags, crowds, key, "value")
    whole = frame.filter(pl.col("window") <= 1)
    value = pl.col(metric) if metric in ("turns", "characters") else pl.lit(1, pl.Int64)
    return whole.select(*tags, crowds, key, value.cast(pl.Int64).alias("value"))


def _with_tokens(frame: pl.LazyFrame, tokenizer: str) -> pl.LazyFrame:
    """Adds each row's learnable and context tokens; a window's repeated context is counted where it stands first."""
    chat = load_chat_tokenizer(tokenizer)
    rows = frame.collect()
    seen: set[tuple[str, str]] = set()
    counts = []
    for conversation, messages in rows.select("conversation_id", "messages").iter_rows():
        new = [m["content"] for m in messages if (conversation, m["content"]) not in seen]
        seen.update((conversation, content) for content in new)
        counts.append(sum(chat.count(content) for content in new))
    return rows.with_columns(value=pl.Series(counts, dtype=pl.Int64)).lazy()


def _nothing() -> pl.LazyFrame:
    schema = {field: pl.List(pl.String) if field in MULTI_VALUED else pl.String for field in FIELDS}
    return pl.LazyFrame(schema={**schema, "user_key": pl.String, "value": pl.Int64})
