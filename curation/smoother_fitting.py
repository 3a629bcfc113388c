"""The fit of a smoother: batches of texts pass the network and back, in the order of a seed.

The network learns by Adam, the weights of hashed features by plain steps, since Adam takes what is rare for certain.
Features of few characters are not learned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.smoother_network import Batch, Floats, Parameters, backward, forward, table_rows
from curation.smoother_reading import WIDE_BITS, Rows, Seen

BATCH_TEXTS = 64
LEAST_COUNT = 3
WIDE_RATE, WIDE_DECAY = 0.02, 0.01
"""Steps of hashed features, and how fast they are forgotten."""
FASTEST, SLOWEST, WARM_UP = 3e-3, 0.03, 100
"""The network's learning rate, the share of it at the end, and batches until it is reached."""
DROPPED = 0.5
"""Share of inputs and of units that are left out in each batch, so that none is relied on alone."""


@dataclass(frozen=True)
class Examples:
    """Texts with what is to be left out of them."""

    seen: Seen
    votes: npt.NDArray[np.uint8]
    """What the rules say of each character."""
    left_out: npt.NDArray[np.uint8]
    """Of each character."""
    weights: Floats
    """Of each text."""


@dataclass(frozen=True)
class Learned:
    """A network with its characters and its hashed features."""

    parameters: Parameters
    characters: npt.NDArray[np.uint32]
    wide: Floats


def fit(
    examples: Examples, *, epochs: int, inputs: int, units: int, seed: int, tell: Callable[[int, int], None]
) -> Learned:
    """Learns from examples; `tell` hears how many of how many passes are done."""
    rng = np.random.Generator(np.random.PCG64(seed))
    seen = examples.seen
    characters = _common(seen.points)
    rows = table_rows(seen, characters, examples.votes)
    counts = np.zeros(1 << WIDE_BITS, dtype=np.int64)
    features = seen.wide.copy()
    _count(features, counts)
    _keep(features, counts, LEAST_COUNT)
    wide = np.zeros(1 << WIDE_BITS, dtype=np.float32)
    parameters = Parameters.drawn(len(characters), inputs, units, rng)
    adam = _Adam(parameters)
    begins, ends = seen.begins[:-1], seen.begins[1:]
    full = np.flatnonzero(ends > begins)
    total = epochs * (-(-len(full) // BATCH_TEXTS))
    for epoch in range(epochs):
        for chosen in _batches(full, ends - begins, rng):
            batch = Batch(rows, seen.again, begins[chosen], ends[chosen])
            slopes = _pass(parameters, batch, examples, chosen, features, wide, rng, adam, total)
            _learn_wide(features, batch.at, batch.mask, slopes, wide, WIDE_RATE * (1 - 0.8 * adam.steps / total))
        tell(epoch + 1, epochs)
    return Learned(parameters, characters, wide)


def _pass(
    parameters: Parameters, batch: Batch, examples: Examples, chosen: npt.NDArray[np.int64], features: Rows,
    wide: Floats, rng: np.random.Generator, adam: "_Adam", total: int,
) -> Floats:  # fmt: skip
    """One batch: the network learns; returns the slopes of the logits."""
    texts = batch.mask.shape[1]
    inputs = _factors((texts, parameters.table.shape[1]), rng)
    units = _factors((texts, len(parameters.out) - 1), rng)
    logits, passed = forward(parameters, batch, inputs, units)
    logits = logits + parameters.out[-1] + _wide_sums(features, batch.at, wide)
    wanted = examples.left_out[batch.at].astype(np.float32)
    slopes: Floats = ((1 / (1 + np.exp(-logits)) - wanted) * batch.mask * examples.weights[chosen]).astype(np.float32)
    shares: Floats = (slopes / batch.mask.sum()).astype(np.float32)
    gradients = backward(parameters, batch, passed, shares, inputs, units)
    gradients.out[-1] = shares.sum()
    adam.step(parameters, gradients, total)
    return slopes


def _common(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    characters, counts = np.unique(points, return_counts=True)
    common: npt.NDArray[np.uint32] = characters[counts >= LEAST_COUNT]
    return common


def _batches(
    texts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """All texts in batches of about one length, in a new order."""
    by_length = texts[np.argsort(lengths[texts] + rng.random(len(texts)) * 3, kind="stable")]
    batches = [by_length[first : first + BATCH_TEXTS] for first in range(0, len(by_length), BATCH_TEXTS)]
    return [batches[index] for index in rng.permutation(len(batches))]


def _factors(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return ((rng.random(shape, dtype=np.float32) >= DROPPED) / (1 - DROPPED)).astype(np.float32)


class _Adam:
    """Kingma and Ba, 2014; the rate rises for WARM_UP batches and falls evenly from there."""

    def __init__(self, parameters: Parameters) -> None:
        self.steps = 0
        self._moments = list(zip(parameters.zeros().arrays(), parameters.zeros().arrays(), strict=True))

    def step(self, parameters: Parameters, gradients: Parameters, total: int) -> None:
        self.steps += 1
        rate = FASTEST * min(1.0, self.steps / WARM_UP) * max(SLOWEST, 1 - self.steps / total)
        scale = rate * (1 - 0.999**self.steps) ** 0.5 / (1 - 0.9**self.steps)
        given = zip(parameters.arrays(), gradients.arrays(), self._moments, strict=True)
        for array, gradient, (mean, square) in given:
            _move(array.ravel(), gradient.ravel(), mean.ravel(), square.ravel(), np.float32(scale))


@compiled
def _move(array: Floats, gradient: Floats, mean: Floats, square: Floats, scale: Any) -> None:
    for at in range(len(array)):
        slope = gradient[at]
        mean[at] += np.float32(0.1) * (slope - mean[at])
        square[at] += np.float32(0.001) * (slope * slope - square[at])
        array[at] -= scale * mean[at] / (np.sqrt(square[at]) + np.float32(1e-8))


@compiled
def _count(features: Rows, counts: npt.NDArray[np.int64]) -> None:
    for place in range(features.shape[0]):
        for column in range(features.shape[1]):
            if features[place, column] >= 0:
                counts[features[place, column]] += 1


@compiled
def _keep(features: Rows, counts: npt.NDArray[np.int64], least: int) -> None:
    """Leaves out the features of fewer characters; those kept stand first."""
    for place in range(features.shape[0]):
        kept = 0
        for column in range(features.shape[1]):
            feature = features[place, column]
            if feature >= 0 and counts[feature] >= least:
                features[place, kept] = feature
                kept += 1
        features[place, kept:] = -1


@compiled
def _wide_sums(features: Rows, at: npt.NDArray[np.int64], wide: Floats) -> Floats:
    sums = np.zeros(at.shape, dtype=np.float32)
    for step in range(at.shape[0]):
        for text in range(at.shape[1]):
            for column in range(features.shape[1]):
                feature = features[at[step, text], column]
                if feature < 0:
                    break
                sums[step, text] += wide[feature]
    return sums


@compiled
def _learn_wide(
    features: Rows, at: npt.NDArray[np.int64], mask: Floats, slopes: Floats, wide: Floats, rate: float
) -> None:
    for step in range(at.shape[0]):
        for text in range(at.shape[1]):
            if mask[step, text] == 0 or abs(slopes[step, text]) < 1e-4:
                continue
            for column in range(features.shape[1]):
                feature = features[at[step, text], column]
                if feature < 0:
                    break
                wide[feature] -= rate * (slopes[step, text] + WIDE_DECAY * wide[feature])
