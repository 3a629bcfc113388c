"""Training of a classifier: from labelled texts to an artefact with its metrics.

Rare labels are repeated up to the size of the commonest (measured at 1 to 10: macro-F1 .787 → .822).
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curation.classifier import (
    DESCRIPTION,
    FORMAT,
    PIECE_TOKENS,
    PREPARATION,
    READINGS,
    Classifier,
    Progress,
    description_digest,
    measure,
)
from curation.errors import CurationError
from curation.labelled import Labelled, choose_labels, read_labelled, split_off
from curation.segments import file_sha256, write_json

LIBRARY = "fasttext-community"
MAX_WEIGHTS = 64_000_000
PHRASE_MIN_COUNT = 5
MIN_READINGS = 50_000
"""By default a few texts are passed over until they were read this often (300 texts: macro-F1 .53 → .77)."""
MAX_COPIES = 20
"""How often a text of a rare label is repeated at most."""
PROBE_TIMEOUT_S = 120


class Hyperparameters(BaseModel):
    """Settings of fastText; the defaults were chosen by measurement on Chinese and English sets."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    epoch: int | None = Field(default=None, ge=1, le=100)
    """Passes over the texts; by default 8, and up to 60 where the texts are few."""
    lr: float = Field(default=0.3, gt=0, le=2)
    dim: int = Field(default=16, ge=2, le=300)
    word_ngrams: int = Field(default=3, ge=1, le=5)
    """Longest n-gram of tokens: of characters in Chinese, of words in English."""
    char_ngrams: int = Field(default=0, ge=0, le=6)
    """Longest n-gram inside a word; 0 for none. Helps with misspelt words of Latin letters."""
    min_count: int = Field(default=1, ge=1, le=1_000)
    """Tokens seen less often are not in the vocabulary."""
    bucket: int = Field(default=500_000, ge=1_000, le=4_000_000)
    """Places for n-grams, by hash."""
    phrase_ngrams: int = Field(default=3, ge=0, le=6)
    """Longest n-gram of characters inside a phrase, for the second model; 0 for the first alone, twice as fast."""
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
    try:
        return Hyperparameters.model_validate(value or {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise CurationError(f"{name}: {first['msg']}" if name else first["msg"]) from None


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
    if not 0 < holdout <= 0.5:
        raise CurationError("holdout: must be more than 0 and at most 0.5 of the texts")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CurationError(f"{out} exists and is not an empty folder")
    tell = on_progress or (lambda stage, done, total: None)
    labelled = read_labelled(records, tell)
    chosen, counts = choose_labels(labelled)
    train, held = split_off(chosen, holdout)
    labels = sorted(set(chosen.values()))
    counts |= {"train": len(train), "holdout": len(held)}
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        keys = _balanced(train, chosen) if settings.balance else train
        if settings.epoch is None:
            settings = settings.model_copy(update={"epoch": min(60, max(8, round(MIN_READINGS / len(keys))))})
        models = _fit(labelled, chosen, keys, labels, settings, folder, tell)
        tell("measure", 0, 1)
        described = _describe(labelled, chosen, held, labels, settings, holdout, counts, models, folder)
        _probe(folder)
        folder.chmod(0o755)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tell("measure", 1, 1)
    return described


def labelled_texts(segments: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The (text, label) records of ingested label segments, one segment in memory at a time."""
    for path in segments:
        yield from pl.read_parquet(path, columns=["text", "label"]).iter_rows()


def _fit(
    labelled: Labelled,
    chosen: dict[bytes, str],
    keys: Sequence[bytes],
    labels: Sequence[str],
    settings: Hyperparameters,
    folder: Path,
    tell: Progress,
) -> dict[str, str]:
    """Trains the models one after the other; returns the hashes of their files."""
    import fasttext

    marks = {label: f"__label__{index} " for index, label in enumerate(labels)}
    lines = pl.Series([" ".join(labelled.texts[key].split(" ")[:PIECE_TOKENS]) for key in keys])
    source, hashes = folder / "train.txt", {}
    own = _own_settings(settings)
    for done, (name, differing) in enumerate(own.items()):
        tell("train", done, len(own))
        with source.open("w", encoding="utf-8") as file:
            file.writelines(
                f"{marks[chosen[key]]}{line}\n" for key, line in zip(keys, READINGS[name](lines), strict=True)
            )
        model = fasttext.train_supervised(
            str(source),
            epoch=settings.epoch,
            lr=settings.lr,
            dim=settings.dim,
            bucket=settings.bucket,
            loss=settings.loss,
            thread=1,
            seed=0,
            verbose=0,
            **differing,
        )
        model.save_model(str(folder / name))
        hashes[name] = file_sha256(folder / name)
    tell("train", len(own), len(own))
    source.unlink()
    return hashes


def _own_settings(settings: Hyperparameters) -> dict[str, dict[str, int]]:
    """What the models do not share, by file.

    A phrase seen less than a few times is its n-grams only, as it will be in texts to come.
    """
    inside = settings.char_ngrams
    tokens = {
        "wordNgrams": settings.word_ngrams,
        "minn": min(2, inside),
        "maxn": inside,
        "minCount": settings.min_count,
    }
    own = {"model.bin": tokens}
    if settings.phrase_ngrams:
        least = max(PHRASE_MIN_COUNT, settings.min_count)
        own["phrases.bin"] = {"wordNgrams": 1, "minn": 1, "maxn": settings.phrase_ngrams, "minCount": least}
    return own


def _balanced(train: Sequence[bytes], chosen: dict[bytes, str]) -> list[bytes]:
    """The training texts, those of rare labels several times, spread evenly by hash."""
    sizes = Counter(chosen[key] for key in train)
    most = max(sizes.values())
    copies = {label: min(MAX_COPIES, max(1, round(most / size))) for label, size in sizes.items()}
    spread = [(hashlib.blake2b(bytes([n]) + key).digest(), key) for key in train for n in range(copies[chosen[key]])]
    return [key for _, key in sorted(spread)]


def _describe(
    labelled: Labelled,
    chosen: dict[bytes, str],
    held: Sequence[bytes],
    labels: Sequence[str],
    settings: Hyperparameters,
    holdout: float,
    counts: dict[str, int],
    models: dict[str, str],
    folder: Path,
) -> dict[str, Any]:
    """Measures the models on the held-out texts and writes their description."""
    classifier = Classifier.open(folder, models, labels)
    metrics = measure(classifier, [labelled.texts[key] for key in held], [chosen[key] for key in held])
    records = hashlib.sha256()
    for key, label in chosen.items():
        records.update(key + json.dumps(label).encode())
    described: dict[str, Any] = {
        "format": FORMAT,
        "preparation": PREPARATION,
        "labels": list(labels),
        "hyperparameters": settings.model_dump(),
        "holdout": holdout,
        "library": {LIBRARY: version(LIBRARY), "numpy": np.__version__},
        "records_sha256": records.hexdigest(),
        "models_sha256": models,
        "metrics": {**metrics, "counts": counts},
    }
    described["digest"] = description_digest(described)
    write_json(described, folder / DESCRIPTION)
    return described


def _probe(folder: Path) -> None:
    """Opens the written artefact in another process, which may crash without taking this one along."""
    command = [sys.executable, "-m", "curation.classifier_training", str(folder)]
    done = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise CurationError("the trained model cannot be opened again: try other hyperparameters")


if __name__ == "__main__":
    Classifier.load(Path(sys.argv[1])).predict(["", "你好", "hello " * 2_000])
