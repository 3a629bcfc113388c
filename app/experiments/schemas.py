"""Experiments as the API tells them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.fields import JsonObject, Name

Tag = Literal["age_band", "gender", "province", "city", "country", "crowd"]
MAX_SAMPLES = 10_000


class Evaluation(BaseModel):
    """What the runs are compared on: the same held-out conversations, and how closely."""

    model_config = ConfigDict(extra="forbid")
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the conversations that no run learns; a job's usual one by default, never more than a fifth."""
    file: str | None = Field(None, pattern=r"^(?:ver|file)-[0-9a-f]{24}$")
    """What to compare on in place of a share, as a job's `validation_file`."""
    bleu_samples: int = Field(300, ge=0, le=MAX_SAMPLES)
    """Replies that every run generates, at most two a conversation; 0: none."""
    review_samples: int = Field(0, ge=0, le=MAX_SAMPLES)
    """Replies of the first and of the last run that people are asked to compare, blind; 0: no review."""
    by: list[Tag] = Field(default=[], max_length=6)
    """Tags by which loss and BLEU are split, with counts."""
    equal_tokens: bool | None = None
    """Whether runs that took fewer tokens are made once more, until they took as many; by default for `lengths`."""

    @model_validator(mode="after")
    def _one(self) -> "Evaluation":
        if self.holdout is not None and self.file is not None:
            raise ValueError("give either holdout or file")
        if len(set(self.by)) < len(self.by):
            raise ValueError("by: each tag once")
        return self


class NewExperiment(BaseModel):
    """A training over a grid of settings."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    job: JsonObject
    """A fine-tuning job, as `POST /v1/fine_tuning/jobs` takes it; what the grid names is set for each run."""
    grid: JsonObject | Literal["lengths"] = "lengths"
    """Values by field of the job (`trainer.data.max_source_length`, `model`, `seed`) or of the recipe
    (`recipe.operators.smooth_disfluency`); every combination is a run. `lengths`: history and reply, halved and whole.
    """
    evaluation: Evaluation = Evaluation()


class RunObject(BaseModel):
    """A point of the grid."""

    ordinal: int
    name: str
    """Its settings in a line."""
    settings: dict[str, Any]
    """What the grid set, by field."""
    budget: Literal["epochs", "tokens"]
    """epochs: as long in replies as every other run; tokens: as long in tokens as the longest of these."""
    job: str
    version: str
    status: str
    """The job's."""
    scored: bool
    error: str | None


class ExperimentProgress(BaseModel):
    """How far the experiment is."""

    runs: int
    trained: int
    scored: int


class ExperimentObject(BaseModel):
    """An experiment."""

    id: str
    object: str = "experiment"
    name: str
    status: str
    """queued, running, succeeded, failed, cancelled"""
    job: dict[str, Any]
    grid: dict[str, list[Any]]
    evaluation: dict[str, Any]
    runs: list[RunObject]
    progress: ExperimentProgress
    review: str | None
    warnings: list[str]
    error: str | None
    created_at: int
    finished_at: int | None
