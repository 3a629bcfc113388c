"""Act on what a trained classifier says of texts.

A conversation's score for a label is that of its worst turn: a classifier learns from single texts, and one unsuitable
sentence in a long conversation would vanish in the text of all of it. What is dropped or flagged tells the label as its
code, with the score.
"""

from typing import Literal

import polars as pl
from pydantic import Field

from curation.classifier import ClassifierRef, open_classifier
from curation.operator import (
    BLANK,
    PROPOSALS,
    ConversationProposals,
    Dialogues,
    OperatorConfig,
    Resources,
    operator,
)


class ClassifyText(OperatorConfig):
    """Drops, flags or unlearns what a trained classifier gives a label."""

    classifier: str = Field(min_length=1, max_length=4_096)
    """Id of the classifier; on the command line its folder."""
    labels: tuple[str, ...] = ()
    """Labels to act on. Of two labels of which one is named like unsuitable (1, true, spam, 违规 …), that one."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Lowest score to act on; by default the one recommended for the label when the classifier was trained."""
    scope: Literal["turn", "conversation"] = "turn"
    """What the action falls on: the turn, or the conversation by its worst turn."""
    roles: tuple[str, ...] = ("user", "assistant")
    """Roles whose turns are read."""
    action: Literal["drop_turn", "drop_conversation", "flag", "no_learn"] = "drop_turn"
    """no_learn keeps replies as context that is not learned."""


@operator(
    kind="classify_text",
    version=1,
    scope="turn",
    config=ClassifyText,
    reads=("role", "text"),
    codes={"<label>": "the classifier gives this label at least the threshold; `score` says how sure it is"},
)
def classify_text(
    given: pl.DataFrame | Dialogues, config: ClassifyText, resources: Resources
) -> pl.DataFrame | ConversationProposals:
    """Proposes a verdict per turn, or per conversation: on its worst turn, or on each of its replies for no_learn."""
    assert resources.classifier is not None
    if isinstance(given, pl.DataFrame):
        return _verdicts(_found(given, config, resources.classifier), config.action)
    found = _found(given.turns, config, resources.classifier)
    worst = found.sort("score", descending=True, maintain_order=True).unique("conversation", maintain_order=True)
    if config.action == "no_learn":
        replies = given.turns.filter(pl.col("role") == "assistant").select("row", "conversation")
        worst = replies.join(worst.drop("row"), on="conversation", maintain_order="left", how="inner")
    return ConversationProposals(turns=_verdicts(worst, config.action).sort("row", maintain_order=True))


def _found(turns: pl.DataFrame, config: ClassifyText, ref: ClassifierRef) -> pl.DataFrame:
    """Turns with a label to act on: the given columns, `code` (the label) and `score`; one row a turn."""
    read = turns.filter(pl.col("role").is_in(config.roles), ~pl.col("text").str.contains(BLANK))
    distinct = read.select("text").unique(maintain_order=True)
    scores = open_classifier(ref).scores(distinct["text"])
    labels = []
    for label in config.labels:
        index = ref.labels.index(label)
        threshold = ref.thresholds[index] if config.threshold is None else config.threshold
        scored = distinct.with_columns(code=pl.lit(label), score=pl.Series(scores[:, index], dtype=pl.Float64))
        labels.append(scored.filter(pl.col("score") >= threshold))
    best = pl.concat(labels).sort("score", descending=True, maintain_order=True).unique("text", maintain_order=True)
    return read.join(best, on="text", maintain_order="left", how="inner")


def _verdicts(found: pl.DataFrame, action: str) -> pl.DataFrame:
    """One row a turn; a dropped conversation's evidence is the turn's whole text."""
    evidence = action == "drop_conversation"
    columns = {
        "row": pl.col("row"),
        "action": pl.lit(action),
        "start": pl.lit(0 if evidence else None),
        "end": pl.col("text").str.len_chars() if evidence else pl.lit(None),
        "code": pl.col("code"),
        "score": pl.col("score"),
    }
    return found.select(columns.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in PROPOSALS.items())
