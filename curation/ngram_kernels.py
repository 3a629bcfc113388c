"""N-grams of code points at native speed: their hashes, and sums over those that a table knows.

A hash is 64 bits wide, so two n-grams of one hash are not expected in a model's life. 0 is no hash, but a free place.
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled_bare

UNKNOWN, SPACE, SINGLE, LETTER, DIGIT = range(5)
"""Kinds of code points: what is a token of its own, and what is part of a word."""
INNER_SHORTEST, MOST_LETTERS = 3, 8
"""Lengths of n-grams inside a word."""
LONG_DIGITS, SHORTEST_WORD = 4, 2
ROOT, INSIDE = np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344)
FACTOR, HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
NONE, BEGIN, END, ZERO = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(ord("0"))
"""BEGIN and END stand for the edges of a word, in which these code points are not."""

Hashes = npt.NDArray[np.uint64]
Points = npt.NDArray[np.uint32]
Kinds = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@compiled_bare
def _mixed(state: np.uint64, value: np.uint64) -> np.uint64:
    product = (state ^ value) * FACTOR
    return product ^ (product >> HALF)


@compiled_bare
def _inside(recent: Hashes, length: int, code: np.uint64, letters: int, inner: Hashes, num_inner: int) -> int:
    """Adds the n-grams of letters that end at `code`, behind `length` others; `recent`: the last ones, by length."""
    for longer in range(min(letters, length + 1), 1, -1):
        recent[longer] = _mixed(recent[longer - 1], code)
        if longer >= INNER_SHORTEST:
            inner[num_inner] = recent[longer]
            num_inner += 1
    recent[1] = _mixed(INSIDE, code)
    return num_inner


@compiled_bare
def _read(
    points: Points, kinds: Kinds, begin: int, end: int, tokens: int, letters: int,
    grams: Hashes, inner: Hashes, recent: Hashes,
) -> tuple[int, int]:  # fmt: skip
    """Hashes of one text's n-grams: into `grams`, those that end at token i from i × tokens, 0 where there is none; and
    into `inner`. Returns how many tokens and how many of `inner`.
    """
    num_tokens = num_inner = 0
    place = begin
    while place < end:
        if kinds[place] == SPACE:
            place += 1
            continue
        token = ROOT
        if kinds[place] == SINGLE:
            token = _mixed(token, np.uint64(points[place]))
            place += 1
        else:
            outer, length = num_inner, 1
            recent[1] = _mixed(INSIDE, BEGIN)
            while place < end and kinds[place] >= LETTER:
                stop = place + 1
                while kinds[place] == DIGIT and stop < end and kinds[stop] == DIGIT:
                    stop += 1
                long = stop - place >= LONG_DIGITS
                for offset in range(LONG_DIGITS if long else stop - place):
                    code = ZERO if long else np.uint64(points[place + offset])
                    token = _mixed(token, code)
                    num_inner = _inside(recent, length, code, letters, inner, num_inner)
                    length += 1
                place = stop
            num_inner = _inside(recent, length, END, letters, inner, num_inner) if length > SHORTEST_WORD else outer
        at = num_tokens * tokens
        grams[at] = _mixed(ROOT, token)
        for longer in range(1, tokens):
            before = grams[at - tokens + longer - 1] if num_tokens >= longer else NONE
            grams[at + longer] = _mixed(before, token) if before != NONE else NONE
        num_tokens += 1
    return num_tokens, num_inner


@compiled_bare
def _all_hashes(
    points: Points, kinds: Kinds, begins: Places, tokens: int, letters: int,
    grams: Hashes, inner: Hashes, recent: Hashes, found: Hashes, owners: Places,
) -> int:  # fmt: skip
    """The work of `all_hashes`; returns how far `found` and `owners` are filled."""
    num = 0
    for text in range(len(begins) - 1):
        num_tokens, num_inner = _read(
            points, kinds, begins[text], begins[text + 1] - 1, tokens, letters, grams, inner, recent
        )
        first = num
        for index in range(num_tokens * tokens):
            if grams[index] != NONE:
                found[num] = grams[index]
                num += 1
        for index in range(num_inner):
            found[num] = inner[index]
            num += 1
        owners[first:num] = text
    return num


@compiled_bare
def insert(hashes: Hashes, keys: Hashes, rows: Rows, shift: np.uint64) -> None:
    """Fills a table of open addressing, with at least one free place, with hashes and their indexes."""
    last = len(keys) - 1
    for row in range(len(hashes)):
        slot = np.int64(hashes[row] >> shift)
        while keys[slot] != NONE:
            slot = (slot + 1) & last
        keys[slot], rows[slot] = hashes[row], row


@compiled_bare
def _known(
    grams: Hashes, num_tokens: int, tokens: int, inner: Hashes, num_inner: int,
    keys: Hashes, shift: np.uint64, stamps: Rows, stamp: int, slots: Places,
) -> int:  # fmt: skip
    """Slots of a text's known n-grams, each once. Of tokens, one is looked up only if what it begins with is known.

    In one piece, since calls from its innermost loop made it three times slower.
    """
    num_grams, last = num_tokens * tokens, len(keys) - 1
    num = longer = 0
    for index in range(num_grams + num_inner):
        outside = index < num_grams
        if outside:
            wanted = grams[index]
            if longer > 0 and (wanted == NONE or grams[index - tokens - 1] == NONE):
                wanted = grams[index] = NONE
            longer = longer + 1 if longer + 1 < tokens else 0
        else:
            wanted = inner[index - num_grams]
        if wanted == NONE:
            continue
        slot = np.int64(wanted >> shift)
        while keys[slot] != wanted and keys[slot] != NONE:
            slot = (slot + 1) & last
        if keys[slot] == NONE:
            if outside:
                grams[index] = NONE
        elif stamps[slot] != stamp:
            stamps[slot] = stamp
            slots[num] = slot
            num += 1
    return num


@compiled_bare
def _known_rows(
    points: Points, kinds: Kinds, begins: Places, tokens: int, letters: int,
    keys: Hashes, rows: Rows, shift: np.uint64, stamps: Rows, first: int,
    grams: Hashes, inner: Hashes, recent: Hashes, slots: Places, found: Rows, owners: Places,
) -> int:  # fmt: skip
    """The work of `known_rows`; returns how far `found` and `owners` are filled."""
    num = 0
    for text in range(len(begins) - 1):
        num_tokens, num_inner = _read(
            points, kinds, begins[text], begins[text + 1] - 1, tokens, letters, grams, inner, recent
        )
        stamp = first + text + 1
        many = _known(grams, num_tokens, tokens, inner, num_inner, keys, shift, stamps, stamp, slots)
        for index in range(many):
            found[num + index] = rows[slots[index]]
        owners[num : num + many] = text
        num += many
    return num


@compiled_bare
def _add_sums(
    points: Points, kinds: Kinds, begins: Places, tokens: int, letters: int,
    keys: Hashes, rows: Rows, shift: np.uint64, stamps: Rows, first: int,
    grams: Hashes, inner: Hashes, recent: Hashes, slots: Places, values: Floats, sums: Floats,
) -> None:  # fmt: skip
    """The work of `add_sums`."""
    for text in range(len(begins) - 1):
        num_tokens, num_inner = _read(
            points, kinds, begins[text], begins[text + 1] - 1, tokens, letters, grams, inner, recent
        )
        stamp = first + text + 1
        many = _known(grams, num_tokens, tokens, inner, num_inner, keys, shift, stamps, stamp, slots)
        for index in range(many):
            row = rows[slots[index]]
            for column in range(values.shape[1]):
                sums[text, column] += values[row, column]


def _room(begins: Places, tokens: int, letters: int) -> tuple[Hashes, Hashes, Hashes]:
    """Room for the longest text's n-grams, since a token has a code point and a letter ends few; and for the last."""
    longest = int(np.diff(begins).max(initial=0))
    sizes = (longest * tokens, 2 * longest * max(1, letters), MOST_LETTERS + 1)
    grams, inner, recent = (np.empty(size, dtype=np.uint64) for size in sizes)
    return grams, inner, recent


def all_hashes(points: Points, kinds: Kinds, begins: Places, tokens: int, letters: int) -> tuple[Hashes, Places]:
    """Every n-gram of the texts of a block, and the text's number in it."""
    found = np.empty(2 * len(points) * (tokens + letters) + 2, dtype=np.uint64)
    owners = np.empty(len(found), dtype=np.int64)
    room = _room(begins, tokens, letters)
    num = _all_hashes(points, kinds, begins, tokens, letters, *room, found, owners)
    return found[:num].copy(), owners[:num].copy()


def known_rows(
    points: Points, kinds: Kinds, begins: Places, tokens: int, letters: int,
    keys: Hashes, rows: Rows, shift: np.uint64, stamps: Rows, first: int,
) -> tuple[Rows, Places]:  # fmt: skip
    """Rows of the texts' known n-grams, each once a text, and the text's number in the block.

    `stamps`: as many zeros as `keys`, for all blocks of a series; `first`: the number of the block's first text in it.
    """
    found = np.empty(2 * len(points) * (tokens + letters) + 2, dtype=np.int32)
    owners = np.empty(len(found), dtype=np.int64)
    grams, inner, recent = _room(begins, tokens, letters)
    slots = np.empty(len(grams) + len(inner), dtype=np.int64)
    num = _known_rows(
        points, kinds, begins, tokens, letters, keys, rows, shift, stamps, first,
        grams, inner, recent, slots, found, owners,
    )  # fmt: skip
    return found[:num].copy(), owners[:num].copy()


def add_sums(
    points: Points, kinds: Kinds, begins: Places, tokens: int, letters: int,
    keys: Hashes, rows: Rows, shift: np.uint64, stamps: Rows, first: int, values: Floats, sums: Floats,
) -> None:  # fmt: skip
    """Adds to each text's row of `sums` the rows of `values` of its known n-grams; otherwise as `known_rows`."""
    grams, inner, recent = _room(begins, tokens, letters)
    slots = np.empty(len(grams) + len(inner), dtype=np.int64)
    _add_sums(
        points, kinds, begins, tokens, letters, keys, rows, shift, stamps, first,
        grams, inner, recent, slots, values, sums,
    )  # fmt: skip
