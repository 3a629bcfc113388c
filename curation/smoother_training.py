"""Training of a smoother: from pairs of spoken and written text to an artefact with its metrics."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from curation.artefacts import Progress, appearing, check_training, read_settings
from curation.errors import CurationError
from curation.mixer import apply_edits
from curation.operators.smooth_disfluency import SmoothDisfluency, smooth_texts
from curation.smoother import ARRAYS, KIND, Smoother, arrays_of, votes_of
from curation.smoother_likeness import shares
from curation.smoother_metrics import measure
from curation.smoother_pairs import MIN_PAIRS, Pair, aligned, examples, read_pairs, split_off
from curation.smoother_spelling import learn_spelling

READINGS = 200_000
"""By default examples are passed over until so many were read, but within EPOCHS."""
EPOCHS = (14, 40)


class SmootherSettings(BaseModel):
    """Settings of training; the defaults were chosen by measurement on Chinese pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    epochs: int | None = Field(default=None, ge=1, le=100)
    """Passes over the examples; by default 14, and up to 40 where pairs are few."""
    inputs: int = Field(default=48, ge=4, le=128)
    """Size of what is known of a character."""
    units: int = Field(default=48, ge=8, le=128, multiple_of=8)
    """Units of the network in each direction."""
    seed: int = Field(default=0, ge=0)


def train_smoother(
    records: Iterable[tuple[str, str]],
    out: Path,
    *,
    holdout: float = 0.1,
    hyperparameters: dict[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains on (spoken, written) records and writes the artefact to `out`; returns its description.

    Raises:
        CurationError: settings or pairs that no smoother can be made of.
    """
    settings = read_settings(SmootherSettings, hyperparameters)
    check_training(out, holdout, "pairs")
    tell = on_progress or (lambda stage, done, total: None)
    pairs, counts = read_pairs(records)
    tell("read", len(pairs), len(pairs))
    train, held = split_off(pairs, holdout)
    arrays = _learned(train, settings, tell)
    spelling = learn_spelling(
        [(pair.spoken, pair.written) for pair in train], [aligned(pair).tolist() for pair in train]
    )
    tell("measure", 0, 1)
    metrics = _measured(Smoother(arrays, spelling), held)
    described = {
        "spelling": asdict(spelling),
        "hyperparameters": settings.model_dump(),
        "holdout": holdout,
        "pairs_sha256": _sha256(pairs),
        "metrics": {**metrics, "counts": {**counts, "train": len(train), "holdout": len(held)}},
    }
    with appearing(out) as folder:
        described = KIND.write(described, {f"{name}.npy": arrays[name] for name in ARRAYS}, folder)
    tell("measure", 1, 1)
    return described


def spoken_and_written(segments: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The (spoken, written) records of ingested segments of pairs, one segment in memory at a time."""
    for path in segments:
        yield from pl.read_parquet(path, columns=["spoken", "written"]).iter_rows()


def evaluate(folder: Path, records: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Metrics of a smoother on (spoken, written) records it was not trained on.

    Raises:
        CurationError: no smoother, or no records.
    """
    smoother = Smoother.load(folder)
    pairs = [Pair(spoken, written) for spoken, written in records if spoken.strip()]
    if not pairs:
        raise CurationError("there is no pair to evaluate on")
    return _measured(smoother, pairs)


def smoothed(texts: Sequence[str], smoother: Smoother | None) -> list[str]:
    """Texts as `smooth_disfluency` leaves them with a smoother, or with its rules alone."""
    found = smooth_texts(texts, SmoothDisfluency(), smoother)
    return [apply_edits(text, [edit[:3] for edit in edits]) for text, edits in zip(texts, found, strict=True)]


def _learned(train: Sequence[Pair], settings: SmootherSettings, tell: Progress) -> dict[str, Any]:
    from curation.smoother_fitting import Examples, fit
    from curation.smoother_reading import read

    if len(train) < MIN_PAIRS // 2:
        raise CurationError("holdout: too few pairs are left to learn from")
    given = list(examples(train, settings.seed))
    epochs = settings.epochs or min(EPOCHS[1], max(EPOCHS[0], round(READINGS / len(given))))
    texts = [example.text for example in given]
    ruled = smooth_texts(texts, SmoothDisfluency(), None)
    votes = [votes_of(text, [edit[:4] for edit in edits]) for text, edits in zip(texts, ruled, strict=True)]
    taught = Examples(
        read(texts),
        np.concatenate(votes),
        np.concatenate([example.left_out for example in given]).astype(np.uint8),
        np.array([example.weight for example in given], dtype=np.float32),
    )
    learned = fit(
        taught, epochs=epochs, inputs=settings.inputs, units=settings.units, seed=settings.seed,
        tell=lambda done, total: tell("train", done, total),
    )  # fmt: skip
    return arrays_of(learned, shares([pair.spoken for pair in train]))


def _measured(smoother: Smoother, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The smoother's figures, and those of the rules alone beside them."""
    spoken = [pair.spoken for pair in pairs]
    return {**measure(pairs, smoothed(spoken, smoother)), "rules_alone": measure(pairs, smoothed(spoken, None))}


def _sha256(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        for text in (pair.spoken, pair.written):
            digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()
