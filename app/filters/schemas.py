"""Classifiers over HTTP."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.fields import JsonObject, Name, Text

MAX_TEXTS = 10_000


class NewClassifier(BaseModel):
    """A classifier to be trained from a file of labels."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    name: Name
    file: Annotated[str, Field(pattern=r"^file-[0-9a-f]{24}$")]
    """A file of purpose labels; one still being processed is waited for."""
    holdout: float = Field(default=0.1, gt=0, le=0.5)
    """Share of each label's texts kept back to measure on."""
    hyperparameters: JsonObject = Field(default_factory=dict)
    """epoch, lr, dim, word_ngrams, char_ngrams, min_count, bucket, loss, balance."""


class ClassifierObject(BaseModel):
    """A classifier and, once trained, how good it is on the texts held out."""

    id: str
    object: str = "classifier"
    name: str
    file: str
    holdout: float
    hyperparameters: dict[str, Any]
    status: str
    digest: str | None
    metrics: dict[str, Any]
    warnings: list[str]
    error: str | None
    created_at: int
    finished_at: int | None


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
