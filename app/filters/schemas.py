"""Learned filters over HTTP: what all have, and classifiers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.fields import JsonObject, Name, Text

MAX_TEXTS = 10_000


class NewFilter(BaseModel):
    """A filter to be trained from a file."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    name: Name
    file: Annotated[str, Field(pattern=r"^file-[0-9a-f]{24}$")]
    """A file of the purpose that the filter learns from; one still being processed is waited for."""


class FilterObject(BaseModel):
    """A filter and, once trained, how good it is on what was held out."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    id: str
    object: str
    """classifier, smoother or reward_model"""
    name: str
    file: str
    holdout: float
    status: str
    digest: str | None
    metrics: dict[str, Any]
    used_by: list[str] | None
    """The versions whose recipes name it, the newest first, at most 100; told where one filter is asked for."""
    warnings: list[str]
    error: str | None
    created_at: int
    finished_at: int | None


class NewClassifier(NewFilter):
    """A classifier to be trained from a file of labels."""

    holdout: float = Field(default=0.1, gt=0, le=0.5)
    """Share of each label's texts kept back to measure on."""
    hyperparameters: JsonObject = Field(default_factory=dict)
    """epoch, lr, dim, word_ngrams, char_ngrams, min_count, bucket, loss, balance."""


class Labelled(BaseModel):
    """A text and what it is."""

    model_config = ConfigDict(extra="forbid")
    text: Text
    label: Annotated[str, Field(min_length=1, max_length=200)]


class NewLabels(BaseModel):
    """Labels that a person gave after a classifier was trained."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    labels: list[Labelled] = Field(min_length=1, max_length=MAX_TEXTS)
    """A text that has a label already gets the new one; of a text given twice the last label counts."""
    name: Name | None = None
    """Of the new classifier; by default that of the old one."""


class ClassifierObject(FilterObject):
    """A classifier and, once trained, how good it is on the texts held out."""

    parent: str | None
    """The classifier whose labels it was trained from, with further ones."""
    labels_added: int
    """How many texts were labelled beside those of the file, its parents' included."""
    hyperparameters: dict[str, Any]


class DeletedFilter(BaseModel):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = True


class Texts(BaseModel):
    """Texts to classify."""

    model_config = ConfigDict(extra="forbid")
    texts: list[Text] = Field(max_length=MAX_TEXTS)


class PredictionObject(BaseModel):
    """The likeliest label and its score, 0 to 1."""

    label: str
    score: float


class Predictions(BaseModel):
    """One prediction a text, in their order."""

    predictions: list[PredictionObject]
