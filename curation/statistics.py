"""Tag statistics of a version: cross-tabulation, filters, metrics.

A closed version carries its conversations counted by all tags together, some thousands of rows for any number of
conversations; what adds up is answered from those. Distinct users come from the columns of its segments, and tokens too
the first time: their counts are of the same form, for whoever keeps them (`count_tokens`).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import CurationError
from curation.users import FIELDS, MULTI_VALUED, UNKNOWN, one_a_user, tags

__all__ = ["COUNTED", "FIELDS", "METRICS", "UNKNOWN", "add_counts", "count_tags", "count_tokens", "tag_statistics"]
METRICS = ("conversations", "users", "turns", "characters", "tokens")
COUNTED = ("conversations", "turns", "characters")
"""Metrics that the counts of a closed version hold."""
SEPARATOR = "\x1f"
"""Between the values of a tag that has several, while they are grouped."""


def count_tags(segments: Iterable[Path]) -> pl.DataFrame:
    """The kept conversations counted by all their tags: one row a combination, with the metrics of COUNTED."""
    parts = (pl.scan_parquet(path).filter(pl.col("window") <= 1).select(*tags(), *_amounts()) for path in segments)
    return _summed(parts, COUNTED)


def count_tokens(segments: Iterable[Path], tokenizer: str | None) -> pl.DataFrame:
    """The tokens of kept conversations, counted by all their tags as `count_tags` does; slow: all text is tokenised."""
    parts = (_with_tokens(pl.scan_parquet(path), tokenizer).select(*tags(), "tokens") for path in segments)
    return _summed(parts, ("tokens",))


def add_counts(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The sum of several counts of the same metrics."""
    given = list(parts)
    metrics = [name for name in given[0].columns if name in METRICS]
    return _summed((part.lazy() for part in given), metrics)


def _summed(parts: Iterable[pl.LazyFrame], metrics: Sequence[str]) -> pl.DataFrame:
    sums = [pl.col(metric).sum() for metric in metrics]
    counts = pl.DataFrame(schema={**dict.fromkeys(FIELDS, pl.String), **dict.fromkeys(metrics, pl.Int64)})
    for part in parts:
        joined = part.with_columns(pl.col("crowd").list.join(SEPARATOR)).group_by(FIELDS).agg(sums)
        counts = pl.concat([counts, joined.collect()]).group_by(FIELDS).agg(sums)
    return counts.sort(FIELDS).with_columns(pl.col("crowd").str.split(SEPARATOR))


def tag_statistics(
    segments: Sequence[Path],
    *,
    by: Sequence[str],
    where: Iterable[tuple[str, str]] = (),
    metric: str = "conversations",
    tokenizer: str | None = None,
    counts: pl.DataFrame | None = None,
    traces: Sequence[Path] = (),
) -> dict[str, Any]:
    """Counts by tags; from `counts`, as `count_tags` and `count_tokens` give them, where they hold the metric.

    `traces` tell where tags come from, one file a segment: between two conversations of a user the better source wins.

    Unknown values are a row of their own; `share` is of `total`.

    A conversation with several crowds counts once in each crowd's row and once in `total`. Repeated `where` on one
    field is OR, on several AND. `users` counts distinct user ids, each with one set of tags; a conversation without an
    id is its own user.

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
    conversations = _counted(segments, traces, metric, tokenizer, counts)
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
        from trainer.dialogues import PACKAGED

        answer["tokenizer"] = tokenizer or PACKAGED
    return answer


def _counted(
    segments: Sequence[Path], traces: Sequence[Path], metric: str, tokenizer: str | None, counts: pl.DataFrame | None
) -> pl.LazyFrame:
    """What is to be added up, with its tags: combinations of tags, conversations, or users."""
    if metric == "tokens" and (counts is None or "tokens" not in counts):
        counts = count_tokens(segments, tokenizer)
    if counts is not None and metric in counts:
        return counts.lazy().rename({metric: "value"})
    conversations = pl.concat([_conversations(path, metric) for path in segments] or [_nothing()])
    return one_a_user(conversations, traces) if metric == "users" else conversations


def _amounts() -> list[pl.Expr]:
    return [pl.lit(1, pl.Int64).alias("conversations"), pl.col("turns"), pl.col("characters")]


def _conversations(path: Path, metric: str) -> pl.LazyFrame:
    """One row a conversation: its tags, the key of its user, and what the metric adds up."""
    own = pl.concat_str(pl.lit("conversation:"), "conversation_id")
    key = pl.coalesce(pl.concat_str(pl.lit("user:"), pl.col("user").struct.field("id")), own).alias("user_key")
    amount = next((e for e, name in zip(_amounts(), COUNTED, strict=True) if name == metric), pl.lit(1, pl.Int64))
    names = ["conversation_id"] if metric == "users" else []
    frame = pl.scan_parquet(path).filter(pl.col("window") <= 1)
    return frame.select(*tags(), key, amount.alias("value"), *names)


def _with_tokens(frame: pl.LazyFrame, tokenizer: str | None) -> pl.LazyFrame:
    """Adds each row's tokens; of a later window, those of the turns that no window before it holds."""
    from trainer.dialogues import PACKAGED, load_chat_tokenizer  # slow to load, and most counts need no token

    chat = load_chat_tokenizer(tokenizer or PACKAGED)
    rows = frame.select("window", "messages", "user").collect()
    before: list[str] = []
    counts = []
    for window, messages in rows.select("window", "messages").iter_rows():
        said = [m["content"] for m in messages if window <= 1 or m["role"] != "system"]
        known = _overlap(before, said) if window > 1 else 0
        counts.append(sum(chat.count(content) for content in said[known:]))
        before = said
    return rows.with_columns(tokens=pl.Series(counts, dtype=pl.Int64)).lazy()


def _overlap(before: list[str], said: list[str]) -> int:
    """How many turns at the end of one window stand at the beginning of the next."""
    longest = min(len(before), len(said))
    return next((length for length in range(longest, 0, -1) if before[-length:] == said[:length]), 0)


def _nothing() -> pl.LazyFrame:
    schema = {field: pl.List(pl.String) if field in MULTI_VALUED else pl.String for field in FIELDS}
    return pl.LazyFrame(schema={**schema, "user_key": pl.String, "value": pl.Int64})
