"""Smoothers over HTTP."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.fields import JsonObject, Name


class NewSmoother(BaseModel):
    """A smoother to be trained from a file of pairs."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    name: Name
    file: Annotated[str, Field(pattern=r"^file-[0-9a-f]{24}$")]
    """A file of purpose pairs; one still being processed is waited for."""
    holdout: float = Field(default=0.1, gt=0, le=0.5)
    """Share of the pairs kept back to measure on."""
    hyperparameters: JsonObject = Field(default_factory=dict)
    """epochs, inputs, units, seed."""


class SmootherObject(BaseModel):
    """A smoother and, once trained, how well it smooths the pairs held out."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    id: str
    object: str = "smoother"
    name: str
    file: str
    holdout: float
    hyperparameters: dict[str, Any]
    status: str
    digest: str | None
    metrics: dict[str, Any]
    """exact_match, precision, recall, f05, the same of pairs that only leave out, and of the rules alone; counts."""
    used_by: list[str] | None
    """The versions whose recipes name it, the newest first, at most 100; told where one smoother is asked for."""
    warnings: list[str]
    error: str | None
    created_at: int
    finished_at: int | None


class EditObject(BaseModel):
    """What goes, or is replaced: code points of the text as sent."""

    start: int
    end: int
    replacement: str
    code: str
    score: float | None
    """How sure the smoother is; null where the rules decided alone."""


class SmoothedText(BaseModel):
    """A text as smooth_disfluency leaves it, and what was done."""

    smoothed: str
    edits: list[EditObject]


class SmoothedTexts(BaseModel):
    """One a text, in their order."""

    predictions: list[SmoothedText]
