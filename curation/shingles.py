"""Texts as sets of three characters in a row, their MinHash signatures, and bands of these that similar sets share.

Two sets of Jaccard similarity s share a band with the probability 1 - (1 - s^ROWS)^BANDS: 0.76 at 0.6, 0.977 at 0.7,
0.997 at 0.75. Source: A. Broder, On the resemblance and containment of documents (1997).
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl
from rensa import RMinHash

from curation.text_blocks import Block, in_blocks

SIZE = 3
BANDS, ROWS = 30, 6
SEED = 20_261_125
SKETCH = np.dtype(np.uint16)
CODE_POINT_BITS = 21
PADDING = "\n" * (SIZE - 1)
"""Behind each text, so that a text shorter than a shingle does not see the next one."""
MIXER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number that spreads what is multiplied by it over all bits: 2^64 divided by the golden ratio."""


def shingles(text: str) -> frozenset[str]:
    """The set of a text; a shorter one is its only member."""
    return frozenset(text[place : place + SIZE] for place in range(max(1, len(text) - SIZE + 1)))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard: what both have, of what any has."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def sketch(texts: pl.Series) -> pl.DataFrame:
    """A column a band, `band_0` and so on, with a number of each text that similar texts are likely to share.

    And the column `sketch`: the low half of each number of a signature, to estimate similarities from.
    """
    powers = MIXER ** np.arange(1, ROWS + 1, dtype=np.uint64)
    numbers: list[npt.NDArray[np.uint64]] = [np.zeros((0, BANDS), dtype=np.uint64)]
    halves: list[bytes] = []
    for block in in_blocks(texts + PADDING):
        signatures = _signatures(block)
        numbers.append((signatures.reshape(-1, BANDS, ROWS) * powers).sum(axis=2, dtype=np.uint64))
        halves += [row.tobytes() for row in signatures.astype(SKETCH)]
    joined = np.concatenate(numbers)
    table = pl.DataFrame({f"band_{band}": joined[:, band] for band in range(BANDS)})
    return table.with_columns(pl.Series("sketch", halves, pl.Binary))


def may_be_similar(ones: npt.NDArray[np.uint16], others: npt.NDArray[np.uint16], least: float) -> npt.NDArray[np.bool_]:
    """Which pairs of sketches, row by row, may be of texts as similar as `least`: within three deviations of the
    estimate."""
    deviation = math.sqrt(least * (1 - least) / (BANDS * ROWS))
    share: npt.NDArray[np.float64] = np.count_nonzero(others == ones, axis=1) / (BANDS * ROWS)
    return share >= least - 3 * deviation


def _signatures(block: Block) -> npt.NDArray[np.uint64]:
    """A row a text of the block."""
    points = block.points.astype(np.uint64)
    padded = np.append(points, [np.uint64(ord("\n"))] * SIZE)
    hashes = np.zeros(len(points), dtype=np.uint64)
    for place in range(SIZE):
        hashes |= padded[place : place + len(points)] << np.uint64(CODE_POINT_BITS * place)
    after = np.append(block.begins[1:] - 1, len(points)) - len(PADDING)  # behind the last character of each text
    steps = np.zeros(len(points) + 1, dtype=np.int64)
    np.add.at(steps, block.begins, 1)
    np.add.at(steps, np.maximum(after - SIZE + 1, block.begins + 1), -1)
    is_first = np.cumsum(steps)[:-1] > 0  # whether a shingle begins here
    offsets = np.append(0, np.cumsum(is_first))[np.append(block.begins, len(points))]
    tokens = np.ascontiguousarray(hashes[is_first] * MIXER)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(tokens, offsets.astype(np.uint64), BANDS * ROWS, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint64)
