"""Keep canned replies from being learned too often: beyond a number or a share they stay as context only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from curation.operator import (
    PROPOSALS,
    Barrier,
    ConversationProposals,
    Dialogues,
    OperatorConfig,
    Resources,
    Shard,
    operator,
)

QUOTAS = pl.Schema({"text": pl.String, "first": pl.Int64, "code": pl.String})
"""Replies that are given too often: how many of a segment's are still learned, and which limit it is."""

DEFAULT_SHARE = 0.01


class LimitRepeats(OperatorConfig):
    """Unlearns canned replies (不客气。) beyond a number or a share; they keep their place as context."""

    max_per_reply: int | None = Field(default=None, ge=1)
    """How often the same reply is learned at most."""
    max_share: float | None = Field(default=None, gt=0, le=1)
    """Share of all replies that the same one makes up at most, though each is learned once; 0.01 where neither limit is
    given."""

    @model_validator(mode="before")
    @classmethod
    def _limited(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("max_per_reply") is None and given.get("max_share") is None:
            return {**given, "max_share": DEFAULT_SHARE}
        return given


def count_replies(dialogues: Dialogues, config: LimitRepeats, resources: Resources) -> pl.DataFrame:
    """How often each reply is given, and how often it is to be learned so far: `text`, `given`, `times`."""
    counts = {"given": pl.len().cast(pl.Int64), "times": pl.col("is_learned").sum().cast(pl.Int64)}
    return _replies(dialogues).group_by("text", maintain_order=True).agg(**counts)


def share_out(shards: Sequence[Shard], config: LimitRepeats, scratch: Path) -> list[pl.DataFrame]:
    """The quotas of each segment; earlier segments have theirs first."""
    if not shards:
        return []
    surveys = [shard.survey for shard in shards]
    total = sum(frame.item() or 0 for frame in pl.collect_all([one.select(pl.col("given").sum()) for one in surveys]))
    limit, code = _limit(config, total)
    counted = pl.concat(surveys).group_by("text").agg(pl.col("times").sum())
    frequent = counted.filter(pl.col("times") > limit).select("text").collect(engine="streaming")
    left = frequent.with_columns(first=pl.lit(limit, pl.Int64))
    quotas = []
    for survey in surveys:
        mine = left.join(
            survey.join(frequent.lazy(), on="text", how="semi").collect(), on="text", maintain_order="left"
        )
        over = mine.filter(pl.col("times") > pl.col("first")).with_columns(code=pl.lit(code)).sort("text")
        quotas.append(over.select(QUOTAS.names()))
        used = left.join(mine.select("text", "times"), on="text", how="left", maintain_order="left")
        rest = (pl.col("first") - pl.col("times").fill_null(0)).clip(lower_bound=0)
        left = used.select("text", first=rest)
    return quotas


def _limit(config: LimitRepeats, total: int) -> tuple[int, str]:
    """How often one reply may be learned, and which setting says so."""
    limits = []
    if config.max_per_reply is not None:
        limits.append((config.max_per_reply, "max_per_reply"))
    if config.max_share is not None:
        limits.append((max(1, int(config.max_share * total)), "max_share"))
    return min(limits)


@operator(
    kind="limit_repeats",
    version=1,
    scope="dataset",
    config=LimitRepeats,
    codes={
        "max_per_reply": "a reply that was given `max_per_reply` times before",
        "max_share": "a reply that makes up `max_share` of all without this one",
    },
    barrier=Barrier(survey=count_replies, decide=share_out),
)
def limit_repeats(
    dialogues: Dialogues, config: LimitRepeats, resources: Resources, quotas: pl.DataFrame
) -> ConversationProposals:
    """Proposes not to learn what goes beyond the quotas."""
    nth = pl.int_range(pl.len(), dtype=pl.Int64).over("text")
    learned = _replies(dialogues).filter("is_learned").with_columns(nth=nth)
    given = learned.join(quotas, on="text", maintain_order="left")
    over = given.filter(pl.col("nth") >= pl.col("first"))
    columns = {"row": pl.col("row"), "action": pl.lit("no_learn"), "code": pl.col("code")}
    proposed = over.select(columns.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in PROPOSALS.items())
    return ConversationProposals(turns=proposed)


def _replies(dialogues: Dialogues) -> pl.DataFrame:
    """Replies without the white space around them, and whether they are to be learned so far."""
    replies = dialogues.turns.filter(pl.col("role") == "assistant")
    is_learned = pl.col("weight").fill_null(1) != 0
    return replies.select("row", pl.col("text").str.strip_chars(), is_learned=is_learned)
