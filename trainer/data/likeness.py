"""Conversations that are nearly the same: sketches of what is said, by which copies are found among millions.

A sketch is the least values of 64 hash functions over all three characters in a row (MinHash, Broder 1997): two
conversations share as many of the 64 as their sets of triples are alike (Jaccard similarity). Four values in a row are
a band; only what shares one of 16 bands is compared. What a system message says is left out, since many share it.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from trainer.dialogues import Message

VALUES, BANDS = 64, 16
SKETCH_BYTES = 2 * VALUES
BAND_BYTES = SKETCH_BYTES // BANDS
MIN_LIKENESS = 0.5
"""Share of the values: 0.75 where 1 character in 20 is another one, up to 0.25 between dialogues of one service."""
CHUNK = 4_096
"""Triples hashed at a time: what is in flight stays in the processor's cache."""
_RANDOM = np.random.default_rng(20_261_125)
_FACTORS = _RANDOM.integers(0, 2**31, (VALUES, 1), np.uint32) * np.uint32(2) + np.uint32(1)
_ADDENDS = _RANDOM.integers(0, 2**32, (VALUES, 1), np.uint32)


def sketch(messages: Iterable[Message]) -> bytes:
    """The sketch of a conversation."""
    said = "\n".join(message["content"] for message in messages if message["role"] != "system")
    points = np.frombuffer(f"\0{said}\0".encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    triples = (points[:-2] << np.uint64(42)) | (points[1:-1] << np.uint64(21)) | points[2:]
    hashes = mixed(triples).astype(np.uint32)
    least = np.full(VALUES, 2**32 - 1, np.uint32)
    for start in range(0, len(hashes), CHUNK):
        np.minimum(least, (_FACTORS * hashes[start : start + CHUNK] + _ADDENDS).min(1), out=least)
    return (mixed(least.astype(np.uint64)) >> np.uint64(48)).astype("<u2").tobytes()


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of pairs of sketches, as rows of bytes, the share of values that are the same."""
    same: np.ndarray = (one.view("<u2") == other.view("<u2")).mean(1)
    return same


def mixed(values: np.ndarray) -> np.ndarray:
    """64-bit numbers as others that look drawn by chance (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


class SketchBook:
    """Many sketches, in several arrays of rows of bytes, which may be memory-mapped."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._arrays = arrays
        self._ends = np.cumsum([0, *map(len, arrays)])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def band(self, number: int) -> np.ndarray:
        """One band of each sketch, as a number."""
        where = slice(number * BAND_BYTES, (number + 1) * BAND_BYTES)
        parts = [np.ascontiguousarray(array[:, where]).view("<u8")[:, 0] for array in self._arrays]
        return np.concatenate([np.empty(0, np.uint64), *parts])

    def take(self, places: np.ndarray) -> np.ndarray:
        """Some of the sketches, as rows of bytes."""
        taken = np.empty((len(places), SKETCH_BYTES), np.uint8)
        of_array = np.searchsorted(self._ends, places, "right") - 1
        for number in np.unique(of_array):
            here = of_array == number
            taken[here] = self._arrays[number][places[here] - self._ends[number]]
        return taken

    def pairs_alike(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places of pairs that are alike: of all that share a band, each with the next, so that all are joined."""
        for number in range(BANDS):
            keys = self.band(number)
            order = np.argsort(keys, kind="stable")
            sharing = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
            for start in range(0, len(sharing), CHUNK):
                one, other = order[sharing[start : start + CHUNK]], order[sharing[start : start + CHUNK] + 1]
                near = likeness(self.take(one), self.take(other)) >= MIN_LIKENESS
                yield one[near], other[near]


class Lookup:
    """Finds of other sketches those that are like one of a book's."""

    def __init__(self, book: SketchBook) -> None:
        self._book = book
        self._orders = [np.argsort(book.band(number), kind="stable") for number in range(BANDS)]
        self._keys = [book.band(number)[order] for number, order in enumerate(self._orders)]

    def is_alike(self, sketches: np.ndarray) -> np.ndarray:
        """Which of some sketches, as rows of bytes, are like one of the book's."""
        found = np.zeros(len(sketches), np.bool_)
        if not len(self._book):
            return found
        for number, (order, keys) in enumerate(zip(self._orders, self._keys, strict=True)):
            wanted = SketchBook([sketches]).band(number)
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            sharing = np.flatnonzero(~found & (keys[at] == wanted))
            other = self._book.take(order[at[sharing]])
            found[sharing] = likeness(sketches[sharing], other) >= MIN_LIKENESS
        return found
