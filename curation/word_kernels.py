"""Places of a text where a word may begin, told by its first symbols in one pass at native speed."""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled_bare

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]


@compiled_bare
def _mixed(first: int | np.uint32, second: np.uint32, factors: tuple[int, int]) -> int:
    """A number of 32 bits of two."""
    return int((np.int64(first) * factors[0] + np.int64(second) * factors[1]) & 0xFFFFFFFF)


@compiled_bare
def _holds(bits: Bits, number: int, shift: int) -> bool:
    place = number >> shift
    return bool(bits[place >> 3] >> (place & 7) & 1)


@compiled_bare
def _find(
    codes: Codes, factors: tuple[int, int], begun: Bits, begun_shift: int, pairs: Bits, pairs_shift: int,
    triples: Bits, triples_shift: int, found: Places,
) -> int:  # fmt: skip
    """The work of `find_beginnings`; returns how far `found` is filled."""
    num, last = 0, len(codes) - 1
    for place in range(last):
        two = _mixed(codes[place], codes[place + 1], factors)
        if _holds(begun, two, begun_shift):
            third = codes[min(place + 2, last)]
            if _holds(pairs, two, pairs_shift) or _holds(triples, _mixed(two, third, factors), triples_shift):
                found[num] = place
                num += 1
    return num


def find_beginnings(
    codes: Codes, factors: tuple[int, int], begun: tuple[Bits, int], pairs: tuple[Bits, int], triples: tuple[Bits, int]
) -> Places:
    """Places whose first two symbols pass a sieve, and as a word of two, or with the third, another.

    `factors` make one number of two. A sieve is a bit for each number, and how far a number is shifted to be one of
    these.
    """
    found = np.empty(len(codes), dtype=np.int64)
    return found[: _find(codes, factors, *begun, *pairs, *triples, found)]
