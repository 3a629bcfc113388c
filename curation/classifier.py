"""The classifier: two fastText models on characters and words, learned from labelled texts.

A text is folded (width, case) and cut into tokens: each character of a script without spaces is one, each word of
others; word n-grams over them are character n-grams in Chinese, so no segmenter is needed. A second model reads the
same text as phrases, each with the n-grams of characters inside it: these know where a phrase begins and ends, and
which word a misspelt one looks like. The two err on different texts, so the mean of their scores is better than either.

An artefact is a folder of `model.bin`, `phrases.bin` and `classifier.json`; its digest is over all, without times or
places. The same labels and settings give the same digest: one thread, and an order that follows from the texts' hashes.

fastText crashes on a damaged model, so a model is opened only when its hash is the one of its training.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.errors import CurationError
from curation.label_metrics import measure_labels
from curation.segments import file_sha256

if TYPE_CHECKING:
    from fasttext.FastText import _FastText

FORMAT = "talkmill.classifier/2"
PREPARATION = 2
"""Raised with every change of `prepare` or `phrases`: an artefact is read only by the code of its training."""
UNSUITABLE = (
    "1 true yes bad unsuitable unsafe offensive toxic abusive abuse spam nsfw insult hate harmful "
    "不合适 不适合 不良 违规 违禁 辱骂 有害 敏感 冒犯 攻击"
)
"""Names of the label to act on where a classifier has two and a recipe names none."""

PIECE_TOKENS = 1_000
"""fastText reads no more than 1,024 tokens of a line; longer texts are scored in pieces."""
BATCH_TEXTS = 10_000
SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
TOKEN = rf"[^\W_{SPACELESS}]+|\S"
PHRASE = rf"[^\W_{SPACELESS}]+|(?:[\w&&[{SPACELESS}]] ?)+|(?:[^\w\s] ?)+|_+"
LONG_NUMBER = r"\d{4,}"
DESCRIPTION = "classifier.json"


def prepare(texts: Sequence[str] | pl.Series) -> pl.Series:
    """Texts as their tokens, joined by spaces. Long numbers are alike: which one it is says nothing."""
    given = texts if isinstance(texts, pl.Series) else pl.Series(texts, dtype=pl.String)
    folded = given.str.normalize("NFKC").str.to_lowercase()
    return folded.str.replace_all(LONG_NUMBER, "0000").str.extract_all(TOKEN).list.join(" ")


def phrases(lines: pl.Series) -> pl.Series:
    """Prepared texts as phrases between tabs: runs of a script without spaces, words of others, punctuation."""
    return lines.str.extract_all(PHRASE).list.join("\t").str.replace_all(" ", "", literal=True)


READINGS: Mapping[str, Callable[[pl.Series], pl.Series]] = {"model.bin": lambda lines: lines, "phrases.bin": phrases}
"""How each model of an artefact is given prepared texts, by the name of its file."""


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
        described = read_description(folder)
        recommended = described["metrics"]["recommended_threshold"]
        labels = tuple(described["labels"])
        return cls(described["digest"], labels, tuple(recommended[label] for label in labels), folder.absolute())

    def unsuitable(self) -> tuple[str, ...]:
        """The labels to act on when nobody names any; none where that cannot be told."""
        found = tuple(label for label in self.labels if label.casefold() in UNSUITABLE.split())
        return found if len(self.labels) == 2 and len(found) == 1 else ()


class Classifier:
    """A trained classifier, opened."""

    def __init__(self, models: "Mapping[str, _FastText]", labels: Sequence[str]) -> None:
        self._models = [(READINGS[name], model) for name, model in models.items()]
        self.labels = tuple(labels)
        self._columns = {f"__label__{index}": index for index in range(len(self.labels))}

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Opens an artefact.

        Raises:
            CurationError: it is not one, is damaged, or is of another version of Talkmill.
        """
        described = read_description(folder)
        for name, sha256 in described["models_sha256"].items():
            if not (folder / name).is_file() or file_sha256(folder / name) != sha256:
                raise CurationError(f"{folder / name} is not the model that {DESCRIPTION} describes: train it again")
        return cls.open(folder, described["models_sha256"], described["labels"])

    @classmethod
    def open(cls, folder: Path, names: Iterable[str], labels: Sequence[str]) -> "Classifier":
        """Opens models that are known to be whole, such as those just trained."""
        import fasttext

        return cls({name: fasttext.load_model(str(folder / name)) for name in names}, labels)

    def scores(self, texts: Sequence[str] | pl.Series) -> npt.NDArray[np.float64]:
        """Scores of `texts` (rows) for each of `labels` (columns); 0 to 1, rounded to 1e-4.

        A text of several pieces has their mean, weighted by length.
        """
        parts = [self._batch(texts[start : start + BATCH_TEXTS]) for start in range(0, len(texts), BATCH_TEXTS)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.labels)))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """The likeliest label of each text."""
        scores = self.scores(texts)
        best = scores.argmax(axis=1)
        return [Prediction(self.labels[index], float(row[index])) for index, row in zip(best, scores, strict=True)]

    def _batch(self, texts: Sequence[str] | pl.Series) -> npt.NDArray[np.float64]:
        lines = prepare(texts)
        long = lines.filter(lines.str.len_bytes() >= 2 * PIECE_TOKENS)  # a token has a byte, and a space behind it
        if (long.str.count_matches(" ", literal=True) >= PIECE_TOKENS).any():
            return self._batch_of_long(lines.to_list())
        return self._rows(lines).round(4)

    def _batch_of_long(self, lines: Sequence[str]) -> npt.NDArray[np.float64]:
        """Texts of several pieces, of which fastText would read the first only."""
        pieces: list[list[str]] = []
        owners: list[int] = []
        for index, line in enumerate(lines):
            tokens = line.split(" ")
            cut = [tokens[start : start + PIECE_TOKENS] for start in range(0, len(tokens), PIECE_TOKENS)]
            pieces += cut
            owners += [index] * len(cut)
        weights = np.array([len(piece) for piece in pieces], dtype=np.float64)
        sums = np.zeros((len(lines), len(self.labels)))
        np.add.at(sums, owners, self._rows(pl.Series([" ".join(piece) for piece in pieces])) * weights[:, None])
        means: npt.NDArray[np.float64] = (sums / np.bincount(owners, weights=weights)[:, None]).round(4)
        return means

    def _rows(self, lines: pl.Series) -> npt.NDArray[np.float64]:
        """The mean of the models' scores."""
        read = [self._scored(model, reading(lines).to_list()) for reading, model in self._models]
        mean: npt.NDArray[np.float64] = np.mean(read, axis=0)
        return mean

    def _scored(self, model: "_FastText", lines: list[str]) -> npt.NDArray[np.float64]:
        """One model's own scores, in the order of our labels; its sums exceed one by rounding."""
        names, values = model.predict(lines, k=len(self.labels))
        rows = np.repeat(np.arange(len(lines)), [len(found) for found in names])
        scores = np.zeros((len(lines), len(self.labels)))
        scores[rows, [self._columns[name] for found in names for name in found]] = np.concatenate(values)
        return scores.clip(0.0, 1.0)


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


def read_description(folder: Path) -> dict[str, Any]:
    """What `classifier.json` says of an artefact, its digest checked.

    Raises:
        CurationError: there is none, or it was changed.
    """
    path = folder / DESCRIPTION
    try:
        described = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CurationError(f"{folder} holds no classifier: {DESCRIPTION} is missing") from None
    except (OSError, ValueError, RecursionError):
        raise CurationError(f"{path} cannot be read: train the classifier again") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise CurationError(f"{path} does not describe a classifier of this version of Talkmill ({FORMAT})")
    if described.get("digest") != description_digest(described):
        raise CurationError(f"{path} was changed after training: train the classifier again")
    if described["preparation"] != PREPARATION:
        raise CurationError(f"{folder}: made by another version of Talkmill, train the classifier again")
    return described


def description_digest(described: dict[str, Any]) -> str:
    """The digest of an artefact: over its description, which holds the model's hash."""
    plain = {key: value for key, value in described.items() if key != "digest"}
    return f"sha256:{hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()}"


Progress = Callable[[str, int, int], None]
"""Told a stage and how much of how much of it is done."""
