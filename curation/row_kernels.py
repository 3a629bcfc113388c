"""Rows of messages as canonical JSON, put together in one array of bytes at native speed."""

import numpy as np
import numpy.typing as npt

from curation.arrays import Texts
from curation.compiled import compiled_bare

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Small = npt.NDArray[np.int8]

QUOTE, BACKSLASH, SPACE = np.uint8(ord('"')), np.uint8(ord("\\")), np.uint8(ord(" "))
SHORT = np.zeros(256, dtype=np.uint8)
"""The letter behind a backslash that stands for a byte; 0 where it stands for itself, or has no letter."""
for _meant, _letter in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True):
    SHORT[ord(_meant)] = ord(_letter)
HEX, UNICODE = (np.frombuffer(word, dtype=np.uint8) for word in (b"0123456789abcdef", b"\\u00"))
CONTENT, ROLE, WEIGHT, CLOSE, NEXT, NOTHING = (
    np.frombuffer(word, dtype=np.uint8) for word in (b'{"content":"', b'","role":"', b'","weight":', b"}", b",", b'"')
)
LONGEST_ESCAPE = 6
MOST_AROUND = len(CONTENT) + len(ROLE) + len(WEIGHT) + len(CLOSE) + len(NEXT) + 1
"""Bytes around a message's text and role."""


@compiled_bare
def _put(out: Bytes, filled: int, held: Bytes, begin: int, end: int) -> int:
    """Copies bytes; returns the end of what is written, as all here do."""
    for index in range(end - begin):
        out[filled + index] = held[begin + index]
    return filled + end - begin


@compiled_bare
def _put_escaped(out: Bytes, filled: int, held: Bytes, begin: int, end: int) -> int:
    """Copies text as the inside of a JSON string."""
    for at in range(begin, end):
        byte = held[at]
        if byte >= SPACE and byte not in (QUOTE, BACKSLASH):
            out[filled] = byte
            filled += 1
        elif SHORT[byte]:
            out[filled], out[filled + 1] = BACKSLASH, SHORT[byte]
            filled += 2
        else:
            filled = _put(out, filled, UNICODE, 0, len(UNICODE))
            out[filled], out[filled + 1] = HEX[byte >> 4], HEX[byte & 15]
            filled += 2
    return filled


@compiled_bare
def _num_escaped(held: Bytes) -> int:
    number = 0
    for byte in held:
        number += (byte < SPACE) | (byte == QUOTE) | (byte == BACKSLASH)
    return number


@compiled_bare
def _write(
    firsts: Places, lasts: Places, before: Texts, after: Texts, content: Texts, role: Texts,
    role_of: Small, weight: Small, out: Bytes, ends: Places,
) -> None:  # fmt: skip
    """The work of `canonical_rows`."""
    filled = 0
    for row in range(len(firsts)):
        filled = _put(out, filled, before[1], before[0][row], before[0][row + 1])
        for turn in range(firsts[row], lasts[row]):
            if turn > firsts[row]:
                filled = _put(out, filled, NEXT, 0, len(NEXT))
            filled = _put(out, filled, CONTENT, 0, len(CONTENT))
            filled = _put_escaped(out, filled, content[1], content[0][turn], content[0][turn + 1])
            filled = _put(out, filled, ROLE, 0, len(ROLE))
            name = role_of[turn]
            filled = _put(out, filled, role[1], role[0][name], role[0][name + 1])
            if weight[turn] >= 0:
                filled = _put(out, filled, WEIGHT, 0, len(WEIGHT))
                out[filled] = 48 + weight[turn]
                filled += 1
            else:
                filled = _put(out, filled, NOTHING, 0, len(NOTHING))
            filled = _put(out, filled, CLOSE, 0, len(CLOSE))
        filled = _put(out, filled, after[1], after[0][row], after[0][row + 1])
        ends[row + 1] = filled


def canonical_rows(
    firsts: Places,
    lasts: Places,
    before: Texts,
    after: Texts,
    content: Texts,
    role: Texts,
    role_of: Small,
    weight: Small,
) -> Texts:
    """Each row's JSON: what stands before its messages, those from its first to its last turn, what stands after.

    A turn says one of `content` and has one of the roles, by number; its weight is a figure, or negative for none.
    """
    longest_role = int(np.diff(role[0]).max(initial=0))
    turns = (
        len(role_of) * (MOST_AROUND + longest_role) + len(content[1]) + _num_escaped(content[1]) * (LONGEST_ESCAPE - 1)
    )
    out = np.empty(len(before[1]) + len(after[1]) + turns, dtype=np.uint8)
    ends = np.zeros(len(firsts) + 1, dtype=np.int64)
    _write(firsts, lasts, before, after, content, role, role_of, weight, out, ends)
    return ends, out
