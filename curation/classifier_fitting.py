"""The fit of a classifier: n-grams are chosen and weighed, fastText learns vectors, and these become logits.

fastText takes the mean of a line's tokens. Each token given to it stands for one n-gram here, so the line decides what
is learned:

- An n-gram stands in a line once however often the text has it, or several times if it tells much: as often as the
  logarithm of its odds for the label that it speaks for most, up to MOST_TELLING. (A linear model learns faster along
  such features; on COLD, macro-F1 .906 → .910.)
- Silent tokens, drawn from a large pool, fill up short lines, so that the mean comes nearer to a sum: .910 → .914. They
  are many so that none of them learns anything; afterwards they are nothing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.classifier import Weights, filled, likelihoods
from curation.errors import CurationError
from curation.ngram_kernels import Hashes
from curation.ngrams import NgramTable, Reading

if TYPE_CHECKING:
    from fasttext.FastText import _FastText

    from curation.classifier_training import Hyperparameters

MOST_TELLING = 6
SMOOTHING = 2.0
"""Texts that every n-gram is thought to be in beside those it is in, of each label in its proportion."""
SILENT_TOKENS = 200_000
MERGED_PAIRS = 20_000_000
TEMPERATURES = [round(1.15**step, 3) for step in range(18)]

Counts = tuple[Hashes, npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""N-grams, labels, and in how many texts of the label the n-gram is."""


def fit(
    texts: pl.Series, labels: npt.NDArray[np.int32], lines: Sequence[int], settings: "Hyperparameters", scratch: Path
) -> Weights:
    """Learns weights.

    `labels`: of each text, from 0. `lines`: indexes of texts in the order of learning, some of them several times.

    Raises:
        CurationError: the settings let the sums grow without bound.
    """
    reading = Reading(settings.word_ngrams, settings.char_ngrams)
    ngrams, weights = choose_ngrams(texts, labels, reading, settings.min_count, settings.bucket)
    table = NgramTable(ngrams, reading)
    with scratch.open("w", encoding="utf-8") as file:
        file.writelines(_lines(table, weights, texts, labels, lines))
    model = _train(scratch, settings)
    scratch.unlink()
    return _weights(model, ngrams, weights, len(np.unique(labels)))


def choose_ngrams(
    texts: pl.Series, labels: npt.NDArray[np.int32], reading: Reading, min_count: int, most: int
) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """The n-grams in at least `min_count` texts, or in more where there are more than `most`; and their weights."""
    ngrams, of, counts = _counted(texts, labels, reading)
    starts = np.flatnonzero(np.append(True, ngrams[1:] != ngrams[:-1]))
    sizes = np.diff(np.append(starts, len(ngrams)))
    totals = np.add.reduceat(counts, starts)
    share = (np.bincount(labels) / len(labels))[of]
    for_label = (counts + SMOOTHING * share) * (1 - share)
    against = (np.repeat(totals, sizes) - counts + SMOOTHING * (1 - share)) * share
    telling = np.maximum.reduceat(np.log(for_label / against), starts)
    least = min_count
    while np.count_nonzero(totals >= least) > most:
        least += 1
    kept = totals >= least
    return ngrams[starts][kept], telling.round().clip(1, MOST_TELLING).astype(np.int64)[kept]


def _counted(texts: pl.Series, labels: npt.NDArray[np.int32], reading: Reading) -> Counts:
    parts: list[Counts] = []
    for ngrams, owners in reading.hashes(texts):
        parts.append(_merged([(ngrams, labels[owners], np.ones(len(ngrams), dtype=np.int64))]))
        if len(parts) > 1 and sum(len(part[0]) for part in parts) > MERGED_PAIRS:
            parts = [_merged(parts)]
    return _merged(parts)


def _merged(parts: Sequence[Counts]) -> Counts:
    """Pairs of n-gram and label, each once, in order."""
    ngrams, of, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((of, ngrams))
    ngrams, of, counts = ngrams[order], of[order], counts[order]
    starts = np.flatnonzero(np.append(True, (ngrams[1:] != ngrams[:-1]) | (of[1:] != of[:-1])))
    return ngrams[starts], of[starts], np.add.reduceat(counts, starts)


def _lines(
    table: NgramTable,
    weights: npt.NDArray[np.int64],
    texts: pl.Series,
    labels: npt.NDArray[np.int32],
    lines: Sequence[int],
) -> Iterator[str]:
    """The texts as fastText is given them: label, n-grams by their rows, silence."""
    tokens = [""] * len(texts)
    lengths = np.ones(len(texts), dtype=np.float32)  # the end of a line is a token, too
    for rows, owners in table.rows(texts):
        times = weights[rows]
        frame = pl.DataFrame({"owner": np.repeat(owners, times), "row": np.repeat(rows, times)})
        joined = frame.group_by("owner", maintain_order=True).agg(pl.col("row").cast(pl.String).str.join(" "))
        for owner, line in joined.iter_rows():
            tokens[owner] = line
        np.add.at(lengths, owners, times)
    silence = (filled(lengths) - lengths).astype(np.int64)
    names = np.array([f"s{index}" for index in range(SILENT_TOKENS)], dtype=object)
    drawn = np.random.Generator(np.random.PCG64(0))
    for text in lines:
        filling = names[drawn.integers(0, SILENT_TOKENS, silence[text])]
        yield f"__label__{labels[text]} {tokens[text]} {' '.join(filling)}\n"


def _train(source: Path, settings: "Hyperparameters") -> "_FastText":
    import fasttext

    given: dict[str, Any] = settings.model_dump(include={"epoch", "lr", "dim", "loss"})
    try:
        return fasttext.train_supervised(
            str(source), **given, minn=0, maxn=0, wordNgrams=1, minCount=1, bucket=0, thread=1, seed=0, verbose=0
        )
    except RuntimeError as error:
        raise CurationError(f"fastText could not learn ({error}): try a lower lr") from None


def _weights(model: "_FastText", ngrams: Hashes, weights: npt.NDArray[np.int64], num_labels: int) -> Weights:
    """The model as sums over n-grams; those that stand in no line, since no text was left for them, are nothing."""
    vectors, output = model.get_input_matrix(), model.get_output_matrix()
    of = np.argsort([int(name.removeprefix("__label__")) for name in model.labels])
    output = np.ascontiguousarray(output[of])
    project = num_labels <= vectors.shape[1]
    names = pl.Series(model.words)
    rows = names.cast(pl.Int64, strict=False).to_numpy()
    learned = np.flatnonzero(~np.isnan(rows))
    width = num_labels if project else vectors.shape[1]
    made = np.zeros((len(ngrams) + 1, 1 + width), dtype=np.float32)
    made[:-1, 0], made[-1, 0] = weights, 1
    known = vectors[learned] @ output.T if project else vectors[learned]
    places = rows[learned].astype(np.int64)
    made[places, 1:] = known * weights[places, None]
    end = vectors[model.get_word_id("</s>")]
    made[-1, 1:] = end @ output.T if project else end
    return Weights(ngrams, made, None if project else output)


def fit_temperature(logits: npt.NDArray[np.float64], true: Sequence[int], loss: str) -> float:
    """The temperature, of at least 1, at which texts that were not learned are likeliest: what was learned by heart is
    surer than it should be.
    """
    rows = np.arange(len(true))

    def surprise(temperature: float) -> float:
        scores = likelihoods(logits / temperature, independent=loss == "ova").clip(1e-6, 1 - 1e-6)
        missed = np.log1p(-scores)
        others = missed.sum() - missed[rows, true].sum() if loss == "ova" else 0.0
        return float(-np.log(scores[rows, true]).sum() - others)

    return min(TEMPERATURES, key=surprise)
