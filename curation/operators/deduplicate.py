"""Drop conversations that are there already: the same ones, and those that differ by scattered characters."""

from typing import Any

import polars as pl
from pydantic import Field

from curation.duplicates import DECISIONS, find_duplicates, survey_conversations
from curation.operator import Barrier, ConversationProposals, Dialogues, OperatorConfig, Resources, operator


class Deduplicate(OperatorConfig):
    """Drops exact and near duplicates of earlier conversations; the trace names the one that is kept."""

    near: bool = True
    """Near duplicates too, not only conversations with the same roles and texts."""
    threshold: float = Field(default=0.6, ge=0.4, le=1.0)
    """How alike near duplicates are at least: Jaccard similarity of their sets of three characters in a row.
    Where 1 character in 20 is another, it is about 0.75. Turn by turn no more than scattered characters may differ, and
    more than numbers must; conversations of fewer than 40 characters have exact duplicates only."""


@operator(
    kind="deduplicate",
    version=3,
    scope="dataset",
    config=Deduplicate,
    codes={
        "exact": "the same roles and texts as an earlier conversation, which `after` names",
        "near": "nearly the same as an earlier conversation, which `after` names; `score` is their similarity",
    },
    barrier=Barrier(survey=survey_conversations, decide=find_duplicates),
)
def deduplicate(
    dialogues: Dialogues, config: Deduplicate, resources: Resources, decisions: pl.DataFrame
) -> ConversationProposals:
    """Proposes to drop what was decided on."""
    rows: list[dict[str, Any]] = decisions.select(DECISIONS.names()).to_dicts()
    return ConversationProposals(
        drops={row["conversation"]: row["code"] for row in rows},
        kept={row["conversation"]: (row["kept"], row["score"]) for row in rows},
    )
