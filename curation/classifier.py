"""The classifier: a fastText model over n-grams, learned from labelled texts, in a form that is small and fast.

A supervised fastText model is linear: a text's logits are the mean of its n-grams' vectors, times the output matrix. So
an artefact keeps for each n-gram its vector times the output matrix already, one number a label, and a text's logits
are sums over its n-grams (`curation/ngrams.py`), divided as in training. Training checks that both forms agree.

Three things differ from plain fastText, all of them in what it is given (`curation/classifier_fitting.py`): an n-gram
counts once a text; one that tells much is given several times; and a short text is filled up with silent tokens, so the
mean comes nearer to a sum, and a short text of unknown words is no sure thing.

An artefact is a folder of `ngrams.npy`, `vectors.npy`, `output.npy` where labels are many, and `classifier.json`; its
digest is over all, without times or places. The same labels and settings give the same digest: one thread, and an order
that follows from the texts' hashes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.artefacts import Kind
from curation.errors import CurationError
from curation.label_metrics import measure_labels

KIND = Kind("classifier", "talkmill.classifier/3", preparation=3)
UNSUITABLE = (
    "1 true yes bad unsuitable unsafe offensive toxic abusive abuse spam nsfw insult hate harmful "
    "不合适 不适合 不良 违规 违禁 辱骂 有害 敏感 冒犯 攻击"
)
"""Names of the label to act on where a classifier has two and a recipe names none."""

FULL_TEXT, SHORT_TEXT = 400, 100
"""Shorter texts, of n n-grams by weight, are filled up with silence to √(FULL_TEXT × n), and to SHORT_TEXT at least."""
NGRAMS, VECTORS, OUTPUT = "ngrams.npy", "vectors.npy", "output.npy"


@dataclass(frozen=True)
class Prediction:
    """The likeliest label, and how sure the model is: 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True)
class ClassifierRef:
    """Which classifier, without its weights: cheap to hold and to send to another process."""

    digest: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    """Recommended, one a label."""
    folder: Path | None = None
    """Where the artefact lies; None where it is only named."""

    @classmethod
    def at(cls, folder: Path) -> "ClassifierRef":
        """The classifier in a folder.

        Raises:
            CurationError: the folder holds none.
        """
        described = KIND.read(folder)
        recommended = described["metrics"]["recommended_threshold"]
        labels = tuple(described["labels"])
        return cls(described["digest"], labels, tuple(recommended[label] for label in labels), folder.absolute())

    def unsuitable(self) -> tuple[str, ...]:
        """The labels to act on when nobody names any; none where that cannot be told."""
        found = tuple(label for label in self.labels if label.casefold() in UNSUITABLE.split())
        return found if len(self.labels) == 2 and len(found) == 1 else ()


@dataclass(frozen=True)
class Weights:
    """What a model knows, in arrays."""

    ngrams: npt.NDArray[np.uint64]
    """Hashes, rising."""
    vectors: npt.NDArray[np.float32]
    """One row an n-gram, and a last one for the end of each text: its weight, then its vector times its weight."""
    output: npt.NDArray[np.float32] | None
    """Makes logits of vectors: labels × dimensions. None where the vectors are logits."""

    def cooled(self, temperature: float) -> "Weights":
        """The same, with logits divided by a temperature: less sure of itself, of the same opinion."""
        if self.output is not None:
            return replace(self, output=self.output / np.float32(temperature))
        vectors = self.vectors.copy()
        vectors[:, 1:] /= np.float32(temperature)
        return replace(self, vectors=vectors)


class Classifier:
    """A trained classifier, opened."""

    def __init__(self, weights: Weights, labels: Sequence[str], settings: Mapping[str, Any]) -> None:
        from curation.ngrams import NgramTable, Reading

        self.labels = tuple(labels)
        self._weights = weights
        self._independent = settings["loss"] == "ova"
        self._table = NgramTable(weights.ngrams, Reading(settings["word_ngrams"], settings["char_ngrams"]))

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Opens an artefact.

        Raises:
            CurationError: it is not one, is damaged, or is of another version of Talkmill.
        """
        described, arrays = KIND.load(folder)
        weights = Weights(arrays[NGRAMS], arrays[VECTORS], arrays.get(OUTPUT))
        return cls(weights, described["labels"], described["hyperparameters"])

    def scores(self, texts: Sequence[str] | pl.Series) -> npt.NDArray[np.float64]:
        """Scores of `texts` (rows) for each of `labels` (columns); 0 to 1, rounded to 1e-4."""
        return likelihoods(self.logits(texts), independent=self._independent).round(4)

    def logits(self, texts: Sequence[str] | pl.Series) -> npt.NDArray[np.float64]:
        """What scores are made of."""
        given = texts if isinstance(texts, pl.Series) else pl.Series(texts, dtype=pl.String)
        sums = self._table.sums(given, self._weights.vectors) + self._weights.vectors[-1]
        logits = sums[:, 1:] / filled(sums[:, :1])
        if self._weights.output is not None:
            logits = logits @ self._weights.output.T
        wide: npt.NDArray[np.float64] = logits.astype(np.float64)
        return wide

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """The likeliest label of each text."""
        scores = self.scores(texts)
        best = scores.argmax(axis=1)
        return [Prediction(self.labels[index], float(row[index])) for index, row in zip(best, scores, strict=True)]


def filled(lengths: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How long texts are, by the weight of their n-grams, once silence fills them up."""
    most: npt.NDArray[np.float32] = np.maximum(lengths, np.floor(np.sqrt(FULL_TEXT * lengths)).clip(SHORT_TEXT))
    return most


def likelihoods(logits: npt.NDArray[np.float64], *, independent: bool) -> npt.NDArray[np.float64]:
    """Scores of logits: on their own, or adding up to one."""
    if independent:
        scores: npt.NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return scores
    raised = np.exp(logits - logits.max(axis=1, keepdims=True, initial=0.0))
    shares: npt.NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares


@lru_cache(maxsize=4)
def _opened(digest: str, folder: Path) -> Classifier:
    return Classifier.load(folder)


def open_classifier(ref: ClassifierRef) -> Classifier:
    """The classifier itself; a few stay open in a process."""
    assert ref.folder is not None, "only named, not at hand"
    return _opened(ref.digest, ref.folder)


def evaluate(folder: Path, records: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Metrics of a classifier on (text, label) records it was not trained on.

    Raises:
        CurationError: no classifier, or no records.
    """
    classifier = Classifier.load(folder)
    texts, true = [], []
    for text, label in records:
        texts.append(text)
        true.append(label)
    if not texts:
        raise CurationError("there is no labelled text to evaluate on")
    return {"records": len(texts), **measure(classifier, texts, true)}


def measure(classifier: Classifier, texts: Sequence[str], true: Sequence[str]) -> dict[str, Any]:
    """The metrics of a classifier's predictions."""
    scores = classifier.scores(texts)
    predicted = [classifier.labels[index] for index in scores.argmax(axis=1)]
    return measure_labels(true, predicted, scores, classifier.labels)
