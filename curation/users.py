"""Users of several conversations: which tags each has, and where these come from.

A conversation's tags are its own evidence. A user has one set of tags: of each field the value of the best source, of
equals the latest; crowds united, but for those that people leave, which only the user's latest conversation tells.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

FIELDS = ("age_band", "gender", "province", "city", "country", "crowd")
MULTI_VALUED = ("crowd",)
SINGLE = tuple(field for field in FIELDS if field not in MULTI_VALUED)
CARRIED_NOWHERE = ("pregnant", "new_customer", "job_seeker")
"""Crowds that a user leaves: they are never carried over to another conversation."""
UNKNOWN = "unknown"
SOURCE = ("source", "follows_from")


def tags() -> list[pl.Expr]:
    """A segment's row's tags, each with a value: what is not known is UNKNOWN."""
    user = pl.col("user").struct
    single = [user.field(field).fill_null(UNKNOWN).alias(field) for field in SINGLE]
    crowd = user.field("crowd").fill_null([])
    return [*single, pl.when(crowd.list.len() == 0).then(pl.lit([UNKNOWN])).otherwise(crowd).alias("crowd")]


def one_a_user(conversations: pl.LazyFrame, traces: Sequence[Path]) -> pl.LazyFrame:
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
    crowds = [_all_of(lasting).alias("lasting"), _known_crowds().last().alias("latest")]
    users = ranked.group_by("user_key", maintain_order=True).agg(*single, *crowds)
    united = pl.concat_list("lasting", "latest").list.unique().list.sort()
    known = pl.when(united.list.len() == 0).then(pl.lit([UNKNOWN])).otherwise(united)
    return users.with_columns(crowd=known, value=pl.lit(1, pl.Int64)).drop("lasting", "latest")


def list_users(
    segments: Sequence[Path], traces: Sequence[Path], *, after: str | None, limit: int, conflicts: bool
) -> tuple[list[dict[str, Any]], bool]:
    """A page of the users that have an id, in the order of their ids, and whether more follow.

    Of each: `conversations`; `tags`, by field the value that counts with its source and the conversation that told it,
    and in `lost` the other values, of each the best source and the latest conversation; `crowds`; and `crowds_left`,
    those that only earlier conversations told and that are not carried over. `conflicts`: only users of whom something
    is lost or left.

    Memory: ids of users while they are counted, then a page's conversations.
    """
    rows = _of_users(segments)
    page = _page(rows, after, limit + 1, conflicts=conflicts)
    wanted = page["user"].head(limit)
    mine = rows.filter(pl.col("user").is_in(wanted.implode())).collect(engine="streaming")
    told = _told(mine, traces)
    last = dict(mine.group_by("user").agg(pl.col("place").max()).iter_rows())
    users = {user: _empty(user, num) for user, num in page.select("user", "conversations").head(limit).iter_rows()}
    for row in told.to_dicts():
        user, field = users[row.pop("user")], row.pop("field")
        latest = last[user["user"]] == row.pop("place")
        if field in MULTI_VALUED:
            is_left = row["value"] in CARRIED_NOWHERE and not latest
            user["crowds_left" if is_left else "crowds"].append(row)
        elif field not in user["tags"]:
            user["tags"][field] = {**row, "lost": []}
        else:
            user["tags"][field]["lost"].append(row)
    return list(users.values()), len(page) > limit


def _empty(user: str, conversations: int) -> dict[str, Any]:
    return {"user": user, "conversations": conversations, "tags": {}, "crowds": [], "crowds_left": []}


def _of_users(segments: Sequence[Path]) -> pl.LazyFrame:
    """One row a conversation of a user with an id, in the version's order, with `place`."""
    user = pl.col("user").struct.field("id").alias("user")
    parts = [
        pl.scan_parquet(path).filter(pl.col("window") <= 1).select(*tags(), user, "conversation_id")
        for path in segments
    ]
    return pl.concat(parts).with_row_index("place").filter(pl.col("user").is_not_null())


def _page(rows: pl.LazyFrame, after: str | None, limit: int, *, conflicts: bool) -> pl.DataFrame:
    """The first users behind `after`: `user`, `conversations`."""
    if after is not None:
        rows = rows.filter(pl.col("user") > after)
    differing = [
        (pl.col(field).filter(pl.col(field) != UNKNOWN).n_unique() > 1).alias(f"{field}_differs") for field in SINGLE
    ]
    passing = pl.col("crowd").list.filter(pl.element().is_in(list(CARRIED_NOWHERE)))
    crowds = [_all_of(passing).alias("passing"), _known_crowds().last().alias("latest")]
    users = rows.group_by("user").agg(pl.len().alias("conversations"), *(differing + crowds if conflicts else []))
    if conflicts:
        left = pl.col("passing").list.set_difference("latest").list.len() > 0
        users = users.filter(pl.any_horizontal(f"{field}_differs" for field in SINGLE) | left)
    found: pl.DataFrame = users.select("user", "conversations").bottom_k(limit, by="user").collect(engine="streaming")
    return found.sort("user")


def _told(rows: pl.DataFrame, traces: Sequence[Path]) -> pl.DataFrame:
    """What conversations tell of users: each value of a field once a user, from its best source, the latest of these.

    Of a user and field in the order in which values count: the first of them is the user's.
    """
    keys = ["user", "place", "conversation_id"]
    single = rows.unpivot(list(SINGLE), index=keys, variable_name="field", value_name="value")
    crowds = rows.select(*keys, pl.lit("crowd").alias("field"), pl.col("crowd").alias("value")).explode("value")
    values = pl.concat([single, crowds]).filter(pl.col("value") != UNKNOWN)
    sourced = values.join(
        _sources(traces, rows.select("conversation_id")), on=["conversation_id", "field", "value"], how="left"
    )
    ordered = sourced.with_columns(pl.col("rank").fill_null(0)).sort(
        pl.col("field").replace_strict({name: number for number, name in enumerate(FIELDS)}), "user",
        "rank", "place", "value", descending=[False, False, True, True, False],
    )  # fmt: skip
    once = ordered.unique(["user", "field", "value"], keep="first", maintain_order=True)
    return once.select("user", "field", "value", *SOURCE, "conversation_id", "place")


def _all_of(lists: pl.Expr) -> pl.Expr:
    """The values of lists in a group, as one list."""
    return lists.explode(keep_nulls=False, empty_as_null=False).implode()


def _known_crowds() -> pl.Expr:
    return pl.col("crowd").list.filter(pl.element() != UNKNOWN)


def _with_ranks(conversations: pl.LazyFrame, traces: Sequence[Path]) -> pl.LazyFrame:
    """Adds a column a field, `<field>_rank`, where users contradict themselves: how good a conversation's source is."""
    differing = [(pl.col(field).filter(pl.col(field) != UNKNOWN).n_unique() > 1).alias(field) for field in SINGLE]
    conflicts = conversations.group_by("user_key").agg(differing).filter(pl.any_horizontal(SINGLE)).select("user_key")
    concerned = conversations.join(conflicts, on="user_key", how="semi").select("conversation_id").collect()
    if concerned.is_empty() or not traces:
        return conversations
    best = _sources(traces, concerned).group_by("conversation_id", "field").agg(pl.col("rank").max())
    ranks = best.pivot("field", index="conversation_id", values="rank", on_columns=SINGLE)
    named = ranks.rename({field: f"{field}_rank" for field in SINGLE}).fill_null(0)
    return conversations.join(named.lazy(), on="conversation_id", how="left", maintain_order="left")


def _sources(traces: Sequence[Path], concerned: pl.DataFrame) -> pl.DataFrame:
    """Where the tags of some conversations come from: conversation_id, field, value, source (the trace's code), rank.

    `follows_from`: the tag (`city=成都市`) of which a derived one is made; it is as good as that one.
    """
    from curation.tagging.choice import RANK

    schema = dict.fromkeys(("conversation_id", "field", "value", *SOURCE), pl.String) | {"rank": pl.Int64}
    if not traces:
        return pl.DataFrame(schema=schema)
    rows = (
        pl.concat([pl.scan_parquet(path) for path in traces])
        .filter(pl.col("operator") == "tag_users", pl.col("action") == "tag")
        .join(concerned.lazy().unique(), on="conversation_id", how="semi")
        .select(
            "conversation_id",
            pl.col("after").str.extract("^([^=]*)=").alias("field"),
            pl.col("after").str.extract("(?s)^[^=]*=(.*)$").alias("value"),
            pl.col("code").cast(pl.String).alias("source"),
            pl.when(pl.col("code") == "derived").then("before").alias("follows_from"),
            pl.col("code").replace_strict(RANK, default=None, return_dtype=pl.Int64).alias("rank"),
        )
        .collect(engine="streaming")
    )
    rows = rows.with_columns(base=pl.col("follows_from").str.extract("^([^=]*)="))
    for _ in range(2):  # a country may follow from a province that follows from a city
        known = rows.filter(pl.col("rank").is_not_null()).group_by("conversation_id", "field").agg(pl.col("rank").max())
        bases = known.rename({"field": "base", "rank": "base_rank"})
        rows = rows.join(bases, on=["conversation_id", "base"], how="left", maintain_order="left")
        rows = rows.with_columns(rank=pl.coalesce("rank", "base_rank")).drop("base_rank")
    return rows.select(*schema)
