"""Training of a classifier: from labelled texts to an artefact with its metrics.

Rare labels are repeated up to the size of the commonest (measured at 1 to 10: macro-F1 .787 → .822).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.artefacts import Progress, appearing, check_training, read_settings
from curation.classifier import KIND, NGRAMS, OUTPUT, VECTORS, Classifier, Weights, measure
from curation.labelled import BATCH_TEXTS
from curation.ngrams import prepare

if TYPE_CHECKING:
    from curation.labelled import Labelled

LIBRARY = "fasttext-community"
MAX_WEIGHTS = 64_000_000
MIN_READINGS = 50_000
"""By default a few texts are passed over until they were read this often (300 texts: macro-F1 .53 → .77)."""
MAX_COPIES = 20
"""How often a text of a rare label is repeated at most."""


class Hyperparameters(BaseModel):
    """Settings of fastText; the defaults were chosen by measurement on Chinese and English sets."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    epoch: int | None = Field(default=None, ge=1, le=100)
    """Passes over the texts; by default 8, and up to 60 where the texts are few."""
    lr: float = Field(default=0.6, gt=0, le=5)
    dim: int = Field(default=16, ge=2, le=300)
    word_ngrams: int = Field(default=4, ge=1, le=5)
    """Longest n-gram of tokens: of characters in Chinese, of words in English."""
    char_ngrams: int = Field(default=4, ge=0, le=6)
    """Longest n-gram of letters inside a word, from 3; 0 for none. Knows misspelt words of Latin letters."""
    min_count: int = Field(default=2, ge=1, le=1_000)
    """N-grams in fewer texts are not learned."""
    bucket: int = Field(default=500_000, ge=1_000, le=4_000_000)
    """Most n-grams; where texts have more, those in the fewest texts are not learned."""
    loss: Literal["softmax", "ova"] = "softmax"
    """Scores that add up to one, or one for each label on its own."""
    balance: bool = True
    """Repeat texts of rare labels up to the size of the commonest."""

    @model_validator(mode="after")
    def _fits_in_memory(self) -> "Hyperparameters":
        if self.dim * self.bucket > MAX_WEIGHTS:
            raise ValueError(f"dim × bucket may be at most {MAX_WEIGHTS:,}")
        return self


def read_hyperparameters(value: dict[str, Any] | None) -> Hyperparameters:
    """Checks settings.

    Raises:
        CurationError: an unknown one or one out of bounds, named.
    """
    return read_settings(Hyperparameters, value)


def train_classifier(
    records: Iterable[tuple[str, str]],
    out: Path,
    *,
    holdout: float = 0.1,
    hyperparameters: dict[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains on (text, label) records and writes the artefact to `out`; returns its description.

    Raises:
        CurationError: settings or labels that no classifier can be made of.
    """
    settings = read_hyperparameters(hyperparameters)
    check_training(out, holdout, "texts")
    from curation.classifier_fitting import fit_temperature
    from curation.labelled import choose_labels, read_labelled, split_off

    tell = on_progress or (lambda stage, done, total: None)
    labelled = read_labelled(records, tell)
    chosen, counts = choose_labels(labelled)
    train, held = split_off(chosen, holdout)
    labels = sorted(set(chosen.values()))
    counts |= {"train": len(train), "holdout": len(held)}
    with appearing(out) as folder:
        keys = _balanced(train, chosen) if settings.balance else train
        if settings.epoch is None:
            settings = settings.model_copy(update={"epoch": min(60, max(8, round(MIN_READINGS / len(keys))))})
        tell("train", 0, 1)
        weights = _learn(labelled, chosen, keys, labels, settings, folder)
        tell("train", 1, 1)
        tell("measure", 0, 1)
        texts, true = [labelled.texts[key] for key in held], [chosen[key] for key in held]
        learned = Classifier(weights, labels, settings.model_dump())
        temperature = fit_temperature(learned.logits(texts), [labels.index(label) for label in true], settings.loss)
        weights = weights.cooled(temperature)
        metrics = measure(Classifier(weights, labels, settings.model_dump()), texts, true)
        described = {
            "labels": labels,
            "hyperparameters": settings.model_dump(),
            "holdout": holdout,
            "records_sha256": _records_sha256(chosen),
            "temperature": temperature,
            "library": {LIBRARY: version(LIBRARY), "numpy": np.__version__},
            "metrics": {**metrics, "counts": counts},
        }
        described = KIND.write(described, _arrays(weights), folder)
    tell("measure", 1, 1)
    return described


def labelled_texts(segments: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The (text, label) records of ingested label segments, one segment in memory at a time."""
    for path in segments:
        yield from pl.read_parquet(path, columns=["text", "label"]).iter_rows()


def with_labels(records: Iterable[tuple[str, str]], added: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Records with further ones; a text that has a further label loses those that it had."""
    further = [(text, label) for text, label in added]
    known = set(prepare([text for text, _ in further]))
    source = iter(records)
    while further and (batch := list(islice(source, BATCH_TEXTS))):
        prepared = prepare([text for text, _ in batch])
        yield from (record for record, text in zip(batch, prepared, strict=True) if text not in known)
    yield from source
    yield from further


def _learn(
    labelled: "Labelled",
    chosen: dict[bytes, str],
    keys: Sequence[bytes],
    labels: Sequence[str],
    settings: Hyperparameters,
    folder: Path,
) -> Weights:
    """The weights learned from texts, read in the order of `keys`."""
    from curation.classifier_fitting import fit

    distinct = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    numbers = {label: number for number, label in enumerate(labels)}
    texts = pl.Series([labelled.texts[key] for key in distinct], dtype=pl.String)
    truth = np.array([numbers[chosen[key]] for key in distinct], dtype=np.int32)
    return fit(texts, truth, [distinct[key] for key in keys], settings, folder / "train.txt")


def _balanced(train: Sequence[bytes], chosen: dict[bytes, str]) -> list[bytes]:
    """The training texts, those of rare labels several times, spread evenly by hash."""
    sizes = Counter(chosen[key] for key in train)
    most = max(sizes.values())
    copies = {label: min(MAX_COPIES, max(1, round(most / size))) for label, size in sizes.items()}
    spread = [(hashlib.blake2b(bytes([n]) + key).digest(), key) for key in train for n in range(copies[chosen[key]])]
    return [key for _, key in sorted(spread)]


def _records_sha256(chosen: dict[bytes, str]) -> str:
    records = hashlib.sha256()
    for key, label in chosen.items():
        records.update(key + json.dumps(label).encode())
    return records.hexdigest()


def _arrays(weights: Weights) -> dict[str, npt.NDArray[Any]]:
    """By file name."""
    arrays: dict[str, npt.NDArray[Any]] = {NGRAMS: weights.ngrams, VECTORS: weights.vectors}
    return arrays if weights.output is None else {**arrays, OUTPUT: weights.output}
