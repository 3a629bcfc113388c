"""Which texts say Chinese characters twice in a row, told in one pass at native speed.

A character is compared with those before it only where it was said a short while ago, which is rare.
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled_bare

Points = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

PAUSE, HAN_CHARACTER, EXPECTED, EMPHATIC = 1, 2, 4, 8
"""Kinds of characters: passed over; Chinese; doubled on purpose often; three and more in a row for emphasis."""
LAST_POINT = 0xFFFF
PHRASE_DISTANCE = 4
"""Two characters with an empty phrase of two between."""


@compiled_bare
def _is_around(said: Points, at: int, phrases: Points) -> bool:
    """Whether the character at a place and the one before it are said again after an empty phrase."""
    between, is_phrase = said[at - 3] << 16 | said[at - 2], False
    for phrase in phrases:
        is_phrase |= phrase == between
    return is_phrase


@compiled_bare
def _repeats(
    points: Points,
    begin: int,
    end: int,
    kinds: Kinds,
    phrases: Points,
    needed: Places,
    said: Points,
    last: Places,
    runs: Places,
) -> bool:
    """The work of `find_repeats` on one text, whose characters go to the same places of `said`.

    `last`: where each character was said last, in texts before too; `runs`: by distance, where the newest run of equal
    characters ended, and how long it is.
    """
    at, run, is_joined, is_pending = begin, 0, True, False
    for place in range(begin, end):
        point = min(points[place], LAST_POINT)
        kind = kinds[point]
        if kind & PAUSE:
            is_joined = False
            continue
        said[at] = point
        run = run + 1 if at > begin and kind & HAN_CHARACTER and said[at - 1] == point else 0
        if run and not (is_joined and kind & (EXPECTED | EMPHATIC if run == 1 else EMPHATIC)):
            return True
        if is_pending and not run:
            return True
        is_pending = run == 1 and not kind & EXPECTED  # it is right only as three in a row
        if kind & HAN_CHARACTER:
            if last[point] >= begin and at - last[point] < len(needed):
                for distance in range(2, min(len(needed) - 1, at - begin) + 1):
                    if said[at - distance] == point:
                        again = runs[distance, 1] + 1 if runs[distance, 0] == at - 1 else 1
                        runs[distance, 0], runs[distance, 1] = at, again
                        if again >= needed[distance]:
                            return True
                        if distance == PHRASE_DISTANCE and again > 1 and _is_around(said, at, phrases):
                            return True
            last[point] = at
        at, is_joined = at + 1, True
    return is_pending


@compiled_bare
def _find(
    points: Points, begins: Places, kinds: Kinds, phrases: Points, needed: Places,
    said: Points, last: Places, runs: Places, found: Flags,
) -> None:  # fmt: skip
    for text in range(len(begins) - 1):
        found[text] = _repeats(points, begins[text], begins[text + 1] - 1, kinds, phrases, needed, said, last, runs)


def find_repeats(points: Points, begins: Places, kinds: Kinds, phrases: Points, needed: Places) -> Flags:
    """Which texts of a block say Chinese characters twice in a row, pauses and a few characters between set aside.

    `begins`: where texts begin, and one more would; `kinds`: of each code point of the basic plane; `phrases`: empty
    phrases of two characters, the first 16 bits higher; `needed`: by distance, how many characters must be said again.
    """
    said, last = np.empty(len(points), dtype=np.uint32), np.full(LAST_POINT + 1, -1, dtype=np.int64)
    runs, found = np.full((len(needed), 2), -1, dtype=np.int64), np.zeros(len(begins) - 1, dtype=np.bool_)
    _find(points, begins, kinds, phrases, needed, said, last, runs, found)
    return found
