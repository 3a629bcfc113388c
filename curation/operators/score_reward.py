"""Act on conversations that a reward model finds worst.

Raw scores have no zero and no unit, so a limit is a quantile of the version's own scores: 0.1 is the tenth of its
conversations with the lowest ones. A conversation's score is that of its lowest reply. Which conversations are lowest
is decided once all segments are scored; conversations without a reply have no score and are left alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

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

SCORES = pl.Schema({"conversation": pl.UInt32, "score": pl.Float64})


class ScoreReward(OperatorConfig):
    """Flags, drops or unlearns the conversations that a reward model scores lowest."""

    reward_model: str = Field(min_length=1, max_length=4_096)
    """Id of the reward model; on the command line its folder."""
    min_score: float = Field(default=0.1, ge=0, lt=1)
    """Quantile of the version's own scores: what is below it is acted on. Of equal scores all are or none is."""
    action: Literal["drop_conversation", "flag", "no_learn"] = "flag"
    """no_learn keeps replies as context that is not learned."""


def score_conversations(dialogues: Dialogues, config: ScoreReward, resources: Resources) -> pl.DataFrame:
    """The score of each conversation that has one: `conversation`, `score`."""
    assert resources.scorer is not None
    message = pl.struct("role", content="text", weight="weight")
    talks = dialogues.turns.group_by("conversation", maintain_order=True).agg(messages=message)
    scores = resources.scorer.scores(talks["messages"].to_list())
    return talks.select("conversation", score=pl.Series(scores, dtype=pl.Float64)).drop_nulls()


def find_lowest(shards: Sequence[Shard], config: ScoreReward, scratch: Path) -> list[pl.DataFrame]:
    """Of each segment, the conversations whose scores are below the quantile of all."""
    surveys = [shard.survey.collect() for shard in shards]
    ordered = pl.concat([pl.DataFrame(schema=SCORES), *surveys])["score"].sort()
    if ordered.is_empty():
        return surveys
    limit = ordered[int(config.min_score * len(ordered))]
    return [survey.filter(pl.col("score") < limit) for survey in surveys]


@operator(
    kind="score_reward",
    version=1,
    scope="conversation",
    config=ScoreReward,
    codes={"low_score": "the conversation's score is below the quantile `min_score` of all; `score` is what it has"},
    barrier=Barrier(survey=score_conversations, decide=find_lowest),
)
def score_reward(
    dialogues: Dialogues, config: ScoreReward, resources: Resources, lowest: pl.DataFrame
) -> ConversationProposals:
    """Proposes a verdict on each low conversation's last reply, or on all of its replies for no_learn."""
    replies = dialogues.turns.filter(pl.col("role") == "assistant").join(lowest, on="conversation", how="inner")
    if config.action != "no_learn":
        replies = replies.unique("conversation", keep="last", maintain_order=True)
    evidence = config.action == "drop_conversation"
    columns = {
        "row": pl.col("row"),
        "action": pl.lit(config.action),
        "start": pl.lit(0 if evidence else None),
        "end": pl.col("text").str.len_chars() if evidence else pl.lit(None),
        "code": pl.lit("low_score"),
        "score": pl.col("score"),
    }
    proposed = replies.sort("row").select(
        columns.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in PROPOSALS.items()
    )
    return ConversationProposals(turns=proposed)
