"""Reward models over HTTP."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.fields import JsonObject
from app.filters.schemas import FilterObject, NewFilter

MAX_CONVERSATIONS = 1_000


class NewRewardModel(NewFilter):
    """A reward model to be trained from a file of preferences."""

    base: str
    """A registered base, a finished fine-tune, `scratch:<preset>`, or an allowed folder."""
    holdout: float = Field(default=0.1, gt=0, le=0.2)
    """Share of the pairs kept back to measure on, 20 at least where a fifth of all is as many."""
    trainer: JsonObject = Field(default_factory=dict)
    """Settings of the run, as in a fine-tuning job, without what names a path or a machine."""


class RewardModelObject(FilterObject):
    """A reward model and, once trained, how well it orders the pairs held out.

    `metrics` are accuracy, accuracy_interval, contradicted, longer_wins, length_correlation, validation_loss, pairs and
    step.
    """

    base: str
    trainer: dict[str, Any]


class Conversation(BaseModel):
    """A conversation to score; what else a conversation has may be there."""

    model_config = ConfigDict(extra="ignore")
    messages: list["SaidMessage"] = Field(max_length=10_000)


class SaidMessage(BaseModel):
    """A turn."""

    model_config = ConfigDict(extra="ignore")
    role: str
    content: str


class Conversations(BaseModel):
    """Conversations to score."""

    model_config = ConfigDict(extra="forbid")
    conversations: list[Conversation] = Field(max_length=MAX_CONVERSATIONS)


class Scores(BaseModel):
    """A score each, in the conversations' order; null where there is no reply to score."""

    scores: list[float | None]
