"""Reward models over HTTP."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.fields import JsonObject, Name

MAX_CONVERSATIONS = 1_000


class NewRewardModel(BaseModel):
    """A reward model to be trained from a file of preferences."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    name: Name
    file: Annotated[str, Field(pattern=r"^file-[0-9a-f]{24}$")]
    """A file of purpose preferences; one still being processed is waited for."""
    base: str
    """A registered base, a finished fine-tune, `scratch:<preset>`, or an allowed folder."""
    holdout: float = Field(default=0.1, gt=0, le=0.2)
    """Share of the pairs kept back to measure on, 20 at least where a fifth of all is as many."""
    trainer: JsonObject = Field(default_factory=dict)
    """Settings of the run, as in a fine-tuning job, without what names a path or a machine."""


class RewardModelObject(BaseModel):
    """A reward model and, once trained, how well it orders the pairs held out."""

    id: str
    object: str = "reward_model"
    name: str
    file: str
    base: str
    holdout: float
    trainer: dict[str, Any]
    status: str
    digest: str | None
    metrics: dict[str, Any]
    """accuracy, accuracy_interval, longer_wins, length_correlation, validation_loss, pairs; step, of the best one."""
    warnings: list[str]
    error: str | None
    created_at: int
    finished_at: int | None


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
