"""Which texts say Chinese characters twice in a row, and how many of them, told in one pass at native speed.

A character is compared with those before it only where it was said a short while ago, which is rare.
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled_bare

Points = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Lengths = npt.NDArray[np.int64]

PAUSE, HAN_CHARACTER, EXPECTED, EMPHATIC, BEGINNING = 1, 2, 4, 8, 16
"""Kinds of characters: passed over; Chinese; doubled on purpose often; three and more in a row for emphasis; first of a
sentence that is begun again."""
LAST_POINT = 0xFFFF
PHRASE_DISTANCE = 4
"""Two characters with an empty phrase of two between."""
FURTHEST_BEGINNING = 3
"""A sentence is begun again after two other characters at most."""


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


@compiled_bare
def _measure(
    points: Points, begins: Places, kinds: Kinds, said: Points, last: Places, runs: Places,
    joined: Lengths, paused: Lengths, begun: Flags,
) -> None:  # fmt: skip
    """The work of `measure_repeats`; `runs`: by distance, where the newest run ended and its two lengths."""
    furthest = joined.shape[1] - 1
    for text in range(len(begins) - 1):
        at, is_joined = begins[text], True
        begin = at
        for place in range(begin, begins[text + 1] - 1):
            point = min(points[place], LAST_POINT)
            kind = kinds[point]
            if kind & PAUSE:
                is_joined = False
                continue
            said[at] = point
            if kind & HAN_CHARACTER:
                if last[point] >= begin and at - last[point] <= furthest:
                    for distance in range(1, min(furthest, at - begin) + 1):
                        if said[at - distance] != point:
                            continue
                        is_on = runs[distance, 0] == at - 1
                        runs[distance, 1] = runs[distance, 1] * is_on + 1 if is_joined else 0
                        runs[distance, 2] = (
                            1 if not is_joined else (runs[distance, 2] + 1) * (is_on and runs[distance, 2] > 0)
                        )
                        runs[distance, 0] = at
                        joined[text, distance] = max(joined[text, distance], runs[distance, 1])
                        paused[text, distance] = max(paused[text, distance], runs[distance, 2])
                        begun[text] |= distance <= FURTHEST_BEGINNING and kind & BEGINNING > 0
                last[point] = at
            at, is_joined = at + 1, True


def measure_repeats(points: Points, begins: Places, kinds: Kinds, furthest: int) -> tuple[Lengths, Lengths, Flags]:
    """How many Chinese characters in a row each text of a block says again, at most, by distance up to `furthest`.

    Pauses count for no distance. The first lengths are of runs without a pause, the second of runs from a pause on;
    they tell no less than what a text says. The flags tell where a BEGINNING stands twice, at a short distance.
    `begins` and `kinds` as for `find_repeats`.
    """
    said, last = np.empty(len(points), dtype=np.uint32), np.full(LAST_POINT + 1, -1, dtype=np.int64)
    runs, begun = np.full((furthest + 1, 3), -1, dtype=np.int64), np.zeros(len(begins) - 1, dtype=np.bool_)
    joined, paused = (np.zeros((len(begins) - 1, furthest + 1), dtype=np.int64) for _ in range(2))
    _measure(points, begins, kinds, said, last, runs, joined, paused, begun)
    return joined, paused, begun
