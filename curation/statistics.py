"""Tag statistics of a version: cross-tabulation, filters, metrics.

A closed version carries its conversations counted by all tags together, some thousands of rows for any number of
conversations; what adds up is answered from those. Distinct users and tokens come from the columns of its segments.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curation.errors import CurationError

FIELDS = ("age_band", "gender", "province", "city", "country", "crowd")
METRICS = ("conversations", "users", "turns", "characters", "tokens")
COUNTED = ("conversations", "turns", "characters")
"""Metrics that the counts of a closed version hold."""
MULTI_VALUED = ("crowd",)
SINGLE = tuple(field for field in FIELDS if field not in MULTI_VALUED)
CARRIED_NOWHERE = ("pregnant", "new_customer", "job_seeker")
"""Crowds that a user leaves: they are never carried over to another conversation."""
UNKNOWN = "unknown"
SEPARATOR = "\x1f"
"""Between the values of a tag that has several, while they are grouped."""


def count_tags(segments: Iterable[Path]) -> pl.DataFrame:
    """The kept conversations counted by all their tags: one row a combination, with the metrics of COUNTED."""
    sums = [pl.col(metric).sum() for metric in COUNTED]
    counts = pl.DataFrame(schema={**dict.fromkeys(FIELDS, pl.String), **dict.fromkeys(COUNTED, pl.Int64)})
    for path in segments:
        tagged = pl.scan_parquet(path).filter(pl.col("window") <= 1).select(*_tags(), *_amounts())
        joined = tagged.with_columns(pl.col("crowd").list.join(SEPARATOR)).group_by(FIELDS).agg(sums)
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
    """Counts by tags; from `counts`, as `count_tags` gives them, where they hold the metric.

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
    if counts is not None and metric in COUNTED:
        return counts.lazy().rename({metric: "value"})
    conversations = pl.concat([_conversations(path, metric, tokenizer) for path in segments] or [_nothing()])
    return _one_a_user(conversations, traces) if metric == "users" else conversations


def _tags() -> list[pl.Expr]:
    """A row's tags, each with a value: what is not known is `unknown`."""
    user = pl.col("user").struct
    single = [user.field(field).fill_null(UNKNOWN).alias(field) for field in SINGLE]
    crowd = user.field("crowd").fill_null([])
    return [*single, pl.when(crowd.list.len() == 0).then(pl.lit([UNKNOWN])).otherwise(crowd).alias("crowd")]


def _amounts() -> list[pl.Expr]:
    return [pl.lit(1, pl.Int64).alias("conversations"), pl.col("turns"), pl.col("characters")]


def _conversations(path: Path, metric: str, tokenizer: str | None) -> pl.LazyFrame:
    """One row a conversation: its tags, the key of its user, and what the metric adds up."""
    own = pl.concat_str(pl.lit("conversation:"), "conversation_id")
    key = pl.coalesce(pl.concat_str(pl.lit("user:"), pl.col("user").struct.field("id")), own).alias("user_key")
    frame = pl.scan_parquet(path)
    if metric == "tokens":
        return _with_tokens(frame, tokenizer).select(*_tags(), key, "value")
    amount = next((e for e, name in zip(_amounts(), COUNTED, strict=True) if name == metric), pl.lit(1, pl.Int64))
    names = ["conversation_id"] if metric == "users" else []
    return frame.filter(pl.col("window") <= 1).select(*_tags(), key, amount.alias("value"), *names)


def _one_a_user(conversations: pl.LazyFrame, traces: Sequence[Path]) -> pl.LazyFrame:
    """One row a user, of conversations in the version's order: of each tag the latest value of the best source.

    Crowds are united; those of CARRIED_NOWHERE count only if the user's latest conversation tells them.
    """
    ranked = _with_ranks(conversations.with_row_index("place"), traces)
    columns = ranked.collect_schema()
    single = [
        pl.col(field)
        .sort_by(pl.col(field) != UNKNOWN, *([f"{field}_rank"] if f"{field}_rank" in columns else []), "place")
        .last()
        for field in SINGLE
    ]
    lasting = pl.col("crowd").list.filter(~pl.element().is_in([UNKNOWN, *CARRIED_NOWHERE]))
    latest = pl.col("crowd").last().list.filter(pl.element() != UNKNOWN)
    crowds = [lasting.explode(keep_nulls=False, empty_as_null=False).implode().alias("lasting"), latest.alias("latest")]
    users = ranked.group_by("user_key", maintain_order=True).agg(*single, *crowds)
    united = pl.concat_list("lasting", "latest").list.unique().list.sort()
    known = pl.when(united.list.len() == 0).then(pl.lit([UNKNOWN])).otherwise(united)
    return users.with_columns(crowd=known, value=pl.lit(1, pl.Int64)).drop("lasting", "latest")


def _with_ranks(conversations: pl.LazyFrame, traces: Sequence[Path]) -> pl.LazyFrame:
    """Adds a column a field, `<field>_rank`, where users contradict themselves: how good a conversation's source is."""
    differing = [(pl.col(field).filter(pl.col(field) != UNKNOWN).n_unique() > 1).alias(field) for field in SINGLE]
    conflicts = conversations.group_by("user_key").agg(differing).filter(pl.any_horizontal(SINGLE)).select("user_key")
    concerned = conversations.join(conflicts, on="user_key", how="semi").select("conversation_id").collect()
    if concerned.is_empty() or not traces:
        return conversations
    ranks = _ranks(traces, concerned).pivot("field", index="conversation_id", values="rank", on_columns=SINGLE)
    named = ranks.rename({field: f"{field}_rank" for field in SINGLE}).fill_null(0)
    return conversations.join(named.lazy(), on="conversation_id", how="left", maintain_order="left")


def _ranks(traces: Sequence[Path], concerned: pl.DataFrame) -> pl.DataFrame:
    """How good the source of each tag of some conversations is; what follows from another tag is as good as that."""
    from curation.tagging.choice import RANK

    rows = (
        pl.concat([pl.scan_parquet(path) for path in traces])
        .filter(pl.col("operator") == "tag_users", pl.col("action") == "tag")
        .join(concerned.lazy(), on="conversation_id", how="semi")
        .select(
            "conversation_id",
            pl.col("after").str.extract("^([^=]*)=").alias("field"),
            pl.col("before").str.extract("^([^=]*)=").alias("base"),
            pl.col("code").replace_strict(RANK, default=None, return_dtype=pl.Int64).alias("rank"),
        )
        .collect()
    )
    for _ in range(2):  # a country may follow from a province that follows from a city
        known = rows.filter(pl.col("rank").is_not_null()).group_by("conversation_id", "field").agg(pl.col("rank").max())
        bases = known.rename({"field": "base", "rank": "base_rank"})
        rows = rows.join(bases, on=["conversation_id", "base"], how="left", maintain_order="left")
        rows = rows.with_columns(rank=pl.coalesce("rank", "base_rank")).drop("base_rank")
    return rows.group_by("conversation_id", "field").agg(pl.col("rank").max()).filter(pl.col("field").is_in(SINGLE))


def _with_tokens(frame: pl.LazyFrame, tokenizer: str | None) -> pl.LazyFrame:
    """Adds each row's tokens; of a later window, those of the turns that no window before it holds."""
    from trainer.dialogues import PACKAGED, load_chat_tokenizer  # slow to load, and most counts need no token

    chat = load_chat_tokenizer(tokenizer or PACKAGED)
    rows = frame.collect()
    before: list[str] = []
    counts = []
    for window, messages in rows.select("window", "messages").iter_rows():
        said = [m["content"] for m in messages if window <= 1 or m["role"] != "system"]
        known = _overlap(before, said) if window > 1 else 0
        counts.append(sum(chat.count(content) for content in said[known:]))
        before = said
    return rows.with_columns(value=pl.Series(counts, dtype=pl.Int64)).lazy()


def _overlap(before: list[str], said: list[str]) -> int:
    """How many turns at the end of one window stand at the beginning of the next."""
    longest = min(len(before), len(said))
    return next((length for length in range(longest, 0, -1) if before[-length:] == said[:length]), 0)


def _nothing() -> pl.LazyFrame:
    schema = {field: pl.List(pl.String) if field in MULTI_VALUED else pl.String for field in FIELDS}
    return pl.LazyFrame(schema={**schema, "user_key": pl.String, "value": pl.Int64})
