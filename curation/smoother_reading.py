"""What a smoother sees of each character: its neighbours, the words around it, and what is said again nearby.

Three rows of a table that the network looks up (character, part of speech with the place in the word, kind of repeat),
the distances at which the same character stands again, and hashed features: n-grams of characters, words and parts of
speech, each with the repeat that the character is part of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.smoothing.words import Vocabulary

if TYPE_CHECKING:
    import polars as pl

WIDE_BITS = 20
NUM_WIDE = 44
"""Hashed features of a character, at most; places that are not used hold -1."""
REPEAT_BITS = 11
NUM_DISTANCES = 12
"""How far ahead and back the same character is looked for."""
MOST_BETWEEN, MOST_EQUAL = 6, 8
PAUSES = "，,、… 。.？?！!～~；;：:"
TAGS = (  # noqa: SIM905  (read as words)
    "a ad ag an b c d df dg e f g h i j k l m mg mq n ng nr nrfg nrt ns nt nz o p q r rg rr rz s t tg u ud ug uj ul uv "
    "uz v vd vg vi vn vq x y z zg eng"
).split()
"""Parts of speech of jieba's dictionary."""
SHAPES = 9 * (len(TAGS) + 1)

Points = npt.NDArray[np.uint32]
Rows = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Seen:
    """The characters of some texts, one after another."""

    points: Points
    begins: npt.NDArray[np.int64]
    """Where each text begins, and where another would."""
    shapes: Rows
    """Part of speech and place in the word, below SHAPES."""
    repeats: Rows
    """Kind of repeat, hashed, below 1 << REPEAT_BITS."""
    again: npt.NDArray[np.uint32]
    """By distance ahead, then back: a bit each."""
    wide: Rows
    """Hashed features, below 1 << WIDE_BITS: NUM_WIDE columns."""


def read(texts: "Sequence[str] | pl.Series") -> Seen:
    """What is seen of some texts."""
    given = list(texts)
    points = np.frombuffer("".join(given).encode("utf-32-le"), dtype=np.uint32)
    begins = np.cumsum([0, *map(len, given)], dtype=np.int64)
    words, kinds = _words(given)
    ends = np.cumsum(words)
    size = len(points)
    shapes, repeats = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
    again, wide = np.zeros(size, dtype=np.uint32), np.full((size, NUM_WIDE), -1, dtype=np.int32)
    pause = _pauses()[np.minimum(points, 0xFFFF)]
    _see(points, pause, begins, ends - words, ends, kinds, shapes, repeats, again, wide)
    return Seen(points, begins, shapes, repeats, again, wide)


def _words(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], Rows]:
    """Lengths and parts of speech of the words of all texts."""
    jieba, numbers = Vocabulary.of().jieba, {tag: number for number, tag in enumerate(TAGS, 1)}
    found = [pair for text in texts for pair in jieba.tag(text)]
    lengths = np.array([len(word) for word, _ in found], dtype=np.int64)
    return lengths, np.array([numbers.get(tag, 0) for _, tag in found], dtype=np.int32)


@lru_cache(maxsize=1)
def _pauses() -> npt.NDArray[np.bool_]:
    table = np.zeros(1 << 16, dtype=np.bool_)
    table[[ord(character) for character in PAUSES]] = True
    return table


@compiled
def _mix(first: np.uint64, second: np.uint64) -> np.uint64:
    mixed = (first ^ (second + np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(29))


@compiled
def _many(template: int, a: Any, b: Any, c: Any, d: Any) -> np.uint64:
    mixed = _mix(_mix(np.uint64(template), np.uint64(a)), np.uint64(b))
    return _mix(_mix(mixed, np.uint64(c)), np.uint64(d))


@compiled
def _find_repeats(text: Points, pause: npt.NDArray[np.bool_], found: npt.NDArray[np.int64], again: Points) -> None:
    """For each character the repeat it is part of that is likeliest to be a slip.

    `found`: 1 in what is said first, 2 between, 3 in what is said again (0 in none); where that begins; the distance;
    how many characters are equal. Long repeats with little between win.
    """
    size = len(text)
    best = np.full(size, -1000.0)
    for distance in range(1, NUM_DISTANCES + 1):
        place = 0
        while place + distance < size:
            if text[place] != text[place + distance] or pause[place]:
                place += 1
                continue
            start = place
            while place + distance < size and text[place] == text[place + distance]:
                if not pause[place]:
                    again[place] |= np.uint32(1) << np.uint32(distance - 1)
                    again[place + distance] |= np.uint32(1) << np.uint32(NUM_DISTANCES + distance - 1)
                place += 1
            end = place
            while end > start and pause[end - 1]:
                end -= 1
            equal = end - start
            between = 0
            for at in range(end, start + distance):
                if not pause[at]:
                    between += 1
            if between > MOST_BETWEEN:
                continue
            score = (
                2.0 * equal - between - 0.1 * max(0, distance - equal) - (3.0 if equal == 1 and between > 2 else 0.0)
            )
            for at in range(start, min(size, start + distance + equal)):
                if score > best[at]:
                    best[at] = score
                    first = at < start + min(equal, distance) or (equal > distance and at < end)
                    found[at, 0] = 1 if first else 2 if at < start + distance else 3
                    found[at, 1], found[at, 2], found[at, 3] = start, distance, equal


@compiled
def _see(
    points: Points, pauses: npt.NDArray[np.bool_], begins: npt.NDArray[np.int64], word_begins: npt.NDArray[np.int64],
    word_ends: npt.NDArray[np.int64], kinds: Rows, shapes: Rows, repeats: Rows, again: Points, wide: Rows,
) -> None:  # fmt: skip
    hashes = np.zeros(len(word_begins), dtype=np.int64)
    for word in range(len(word_begins)):
        mixed = np.uint64(word_ends[word] - word_begins[word])
        for at in range(word_begins[word], word_ends[word]):
            mixed = _mix(mixed, np.uint64(points[at]))
        hashes[word] = np.int64(mixed >> np.uint64(2))
    first = 0
    for text in range(len(begins) - 1):
        begin, end = begins[text], begins[text + 1]
        last = first
        while last < len(word_begins) and word_begins[last] < end:
            last += 1
        found = np.zeros((end - begin, 4), dtype=np.int64)
        _find_repeats(points[begin:end], pauses[begin:end], found, again[begin:end])
        of = np.zeros(end - begin, dtype=np.int64)
        for word in range(first, last):
            of[word_begins[word] - begin : word_ends[word] - begin] = word - first
        _see_text(
            points[begin:end], pauses[begin:end], found, of, word_begins[first:last] - begin,
            word_ends[first:last] - begin, kinds[first:last], hashes[first:last], shapes[begin:end],
            repeats[begin:end], wide[begin:end],
        )  # fmt: skip
        first = last


@compiled
def _see_text(  # noqa: PLR0915  (a feature a place)
    text: Points, pause: npt.NDArray[np.bool_], found: npt.NDArray[np.int64], of: npt.NDArray[np.int64],
    begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], kinds: Rows, hashes: npt.NDArray[np.int64],
    shapes: Rows, repeats: Rows, wide: Rows,
) -> None:  # fmt: skip
    size, num_words = len(text), len(begins)
    row = np.zeros(NUM_WIDE, dtype=np.uint64)
    mask = np.uint64((1 << WIDE_BITS) - 1)
    since = 0
    for i in range(size):
        since = 0 if i == 0 or pause[i - 1] else min(since + 1, 4)
        until = 0
        while until < 4 and i + 1 + until < size and not pause[i + 1 + until]:
            until += 1
        c0 = np.int64(text[i])
        b1, b2 = np.int64(text[i - 1]) if i > 0 else 1, np.int64(text[i - 2]) if i > 1 else 1
        a1, a2 = np.int64(text[i + 1]) if i + 1 < size else 2, np.int64(text[i + 2]) if i + 2 < size else 2
        a3 = np.int64(text[i + 3]) if i + 3 < size else 2
        w = of[i]
        kind, before, after = kinds[w], kinds[w - 1] if w > 0 else 0, kinds[w + 1] if w + 1 < num_words else 0
        before2, after2 = kinds[w - 2] if w > 1 else 0, kinds[w + 2] if w + 2 < num_words else 0
        word, last, following = hashes[w], hashes[w - 1] if w > 0 else 1, hashes[w + 1] if w + 1 < num_words else 2
        last2, following2 = hashes[w - 2] if w > 1 else 1, hashes[w + 2] if w + 2 < num_words else 2
        inside = min(i - begins[w], 2) * 3 + min(ends[w] - 1 - i, 2)
        shapes[i] = kind * 9 + inside
        row[0], row[1], row[2] = _many(2, c0, 0, 0, 0), _many(3, b1, c0, 0, 0), _many(4, c0, a1, 0, 0)
        row[3], row[4], row[5] = _many(5, b2, b1, c0, 0), _many(6, b1, c0, a1, 0), _many(7, c0, a1, a2, 0)
        row[6], row[7], row[8] = _many(8, b1, c0, a1, a2), _many(9, b2, b1, c0, a1), _many(10, c0, a1, a2, a3)
        row[9], row[10], row[11] = _many(11, b1, 0, 0, 0), _many(12, a1, 0, 0, 0), _many(13, b1, a1, 0, 0)
        row[12], row[13] = _many(14, a1, a2, 0, 0), _many(15, b2, b1, 0, 0)
        row[14], row[15] = _many(16, c0, since, until, 0), _many(17, since, min(i, 4), 0, 0)
        row[16], row[17], row[18] = (
            _many(20, word, inside, 0, 0),
            _many(21, word, inside, last, 0),
            _many(22, word, inside, following, 0),
        )
        row[19], row[20] = _many(23, word, inside, last, following), _many(24, word, inside, before, after)
        row[21], row[22] = _many(25, word, inside, after, 0), _many(26, word, inside, before, 0)
        row[23], row[24] = _many(27, word, inside, following, following2), _many(28, word, inside, last, last2)
        row[25], row[26] = (
            _many(29, kind, inside, before, after),
            _many(30, kind * 9 + inside, before * 64 + before2, after, after2),
        )
        row[27], row[28] = _many(31, word, inside, min(since, 3), min(until, 3)), _many(32, word, inside, after, after2)
        row[29] = _many(33, word, inside, before, before2)
        num = 30
        part = found[i, 0]
        repeats[i] = 0
        if part > 0:
            start, distance, equal = found[i, 1], found[i, 2], found[i, 3]
            between, num_between = np.uint64(7), 0
            for at in range(start + equal, min(size, start + distance)):
                num_between += not pause[at]
                between = _mix(between, np.uint64(text[at]))
            said = np.uint64(9)
            for at in range(start, start + min(equal, distance)):
                said = _mix(said, np.uint64(text[at]))
            again, behind = start + distance, start + distance + equal
            pausing = distance - equal > num_between
            base = _many(40, part, min(equal, MOST_EQUAL), num_between, pausing)
            edges = 8 * (begins[of[start]] == start) + 4 * (ends[of[start + equal - 1]] == start + equal)
            if again < size:
                edges += 2 * (begins[of[again]] == again) + (ends[of[min(behind, size) - 1]] == behind)
            head, tail = kinds[of[start]], kinds[of[again]] if again < size else 0
            repeats[i] = 1 + np.int32((_mix(base, np.uint64(edges)) & mask) % np.uint64((1 << REPEAT_BITS) - 1))
            next_one, before_it = text[behind] if behind < size else 2, text[start - 1] if start > 0 else 1
            row[30], row[31], row[32] = base, _mix(base, np.uint64(100 + edges)), _mix(base, said)
            row[33], row[34] = _mix(base, _mix(np.uint64(43), between)), _mix(base, _mix(np.uint64(44), np.uint64(c0)))
            row[35], row[36] = (
                _mix(base, _mix(np.uint64(45), np.uint64(next_one))),
                _mix(base, _mix(np.uint64(46), np.uint64(before_it))),
            )
            row[37] = _mix(base, np.uint64(1000 + head * 16 + edges))
            row[38] = _mix(base, np.uint64(3000 + head * 64 + tail))
            row[39] = _mix(between, np.uint64(50 + part))
            row[40] = _mix(said, np.uint64(60 + part))
            row[41] = _mix(_mix(said, np.uint64(70 + 16 * part + edges)), np.uint64(min(num_between, 2)))
            row[42] = _mix(base, np.uint64(200 + min(i - start, 3) * 8 + min(max(0, start + equal - i), 4)))
            row[43] = _mix(_mix(base, np.uint64(word)), np.uint64(inside * 16 + edges))
            num = 44
        for at in range(num):
            wide[i, at] = np.int32(row[at] & mask)
