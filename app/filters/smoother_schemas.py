"""Smoothers over HTTP."""

from typing import Any

from pydantic import BaseModel, Field

from app.fields import JsonObject
from app.filters.schemas import FilterObject, NewFilter


class NewSmoother(NewFilter):
    """A smoother to be trained from a file of pairs."""

    holdout: float = Field(default=0.1, gt=0, le=0.5)
    """Share of the pairs kept back to measure on."""
    hyperparameters: JsonObject = Field(default_factory=dict)
    """epochs, inputs, units, seed."""


class SmootherObject(FilterObject):
    """A smoother and, once trained, how well it smooths the pairs held out.

    `metrics` are exact_match, precision, recall, f05, the same of pairs that only leave out, and of the rules alone.
    """

    hyperparameters: dict[str, Any]


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
