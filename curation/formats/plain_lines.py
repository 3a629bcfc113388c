"""Lines of JSON taken apart at native speed, as long as they are conversations in a plain form.

A line is taken if it is surely right: one object of an id, a list of turns, perhaps a `user` and `meta`, each once, and
nothing else; a turn is who speaks, what is said and perhaps a weight. What else a line may be, good or bad, is left
to the reader of records.

Functions that read one thing get where it begins and return where it ends, or NO where it is not surely that; what
begins at NO ends at NO. All stand in one file, since numba keeps its code until the caller's file changes.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled_bare

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NO = -1
QUOTE, BACKSLASH, COMMA, COLON, OPEN, CLOSE, BEGIN, END = (np.uint8(ord(c)) for c in '"\\,:[]{}')
SPACE, TAB, RETURN, MINUS, ZERO, ONE, NINE = (np.uint8(ord(c)) for c in " \t\r-019")
LETTER_U = np.uint8(ord("u"))
ESCAPES = np.zeros(256, dtype=np.uint8)
"""What stands for what behind a backslash; 0 for what does not."""
for _letter, _meant in zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True):
    ESCAPES[ord(_letter)] = ord(_meant)
HEX = np.full(256, 16, dtype=np.uint8)
for _digit in "0123456789abcdefABCDEF":
    HEX[ord(_digit)] = int(_digit, 16)
MAX_DIGITS = 18
NULL, ID, WEIGHT, USER, META = (
    np.frombuffer(word, dtype=np.uint8) for word in (b"null", b"id", b"weight", b"user", b"meta")
)
MAX_SPEAKERS = 50
SMALLEST_TURN = 20
"""Bytes; no turn is written in fewer."""
UNWEIGHED = -1


class Reading(NamedTuple):
    """What is read of lines."""

    taken: Flags
    """By line: whether it was in the plain form; only those are told of below."""
    said: Bytes
    """What all turns say, one behind the other."""
    turns: Places
    """By turn: where its text ends in `said`, the speaker's number, the weight or UNWEIGHED."""
    upto: Places
    """By taken line: how many turns there are up to its end."""
    about: Places
    """By taken line: where its id begins and ends in the content, its user, its metadata; 0 where there is none."""
    speakers: Places
    """By speaker: where the name begins and ends in the content."""


@compiled_bare
def _blank(content: Bytes, at: int, end: int) -> int:
    """Skips white space."""
    while 0 <= at < end and (content[at] == SPACE or content[at] == TAB or content[at] == RETURN):
        at += 1
    return at


@compiled_bare
def _stands(content: Bytes, at: int, end: int, wanted: np.uint8) -> bool:
    """Whether a sign stands there."""
    return 0 <= at < end and content[at] == wanted


@compiled_bare
def _sign(content: Bytes, at: int, end: int, wanted: np.uint8) -> int:
    """A sign with white space around it."""
    at = _blank(content, at, end)
    return _blank(content, at + 1, end) if _stands(content, at, end, wanted) else NO


@compiled_bare
def _literal(content: Bytes, at: int, end: int, word: Bytes) -> int:
    """Exactly these bytes."""
    if at < 0 or at + len(word) > end:
        return NO
    for index in range(len(word)):
        if content[at + index] != word[index]:
            return NO
    return at + len(word)


@compiled_bare
def _name(content: Bytes, at: int, end: int) -> int:
    """A string without escapes, up to its closing quote."""
    if not _stands(content, at, end, QUOTE):
        return NO
    at += 1
    while at < end and content[at] != QUOTE:
        if content[at] < SPACE or content[at] == BACKSLASH:
            return NO
        at += 1
    return at if at < end else NO


@compiled_bare
def _is(content: Bytes, begin: int, end: int, word: Bytes) -> bool:
    """Whether these bytes, and no more, stand between two places."""
    return end - begin == len(word) and _literal(content, begin, end, word) == end


@compiled_bare
def _unit(content: Bytes, at: int, end: int) -> int:
    """The number that four hexadecimal digits make."""
    if at + 4 > end:
        return NO
    unit = 0
    for index in range(at, at + 4):
        digit = HEX[content[index]]
        if digit > 15:
            return NO
        unit = unit * 16 + digit
    return unit


@compiled_bare
def _encoded(code: int, out: Bytes, filled: int) -> int:
    """Writes a code point as UTF-8; returns the end of what is written."""
    if code < 0x80:
        out[filled] = code
        return filled + 1
    if code < 0x800:
        out[filled] = 0xC0 | code >> 6
    elif code < 0x10000:
        out[filled] = 0xE0 | code >> 12
    else:
        out[filled] = 0xF0 | code >> 18
        filled += 1
        out[filled] = 0x80 | code >> 12 & 0x3F
    if code >= 0x800:
        filled += 1
        out[filled] = 0x80 | code >> 6 & 0x3F
    out[filled + 1] = 0x80 | code & 0x3F
    return filled + 2


@compiled_bare
def _escape(content: Bytes, at: int, end: int, out: Bytes, filled: int) -> tuple[int, int]:
    """What a backslash and the signs behind it stand for, written out; half a pair of surrogates is refused."""
    if at + 1 >= end:
        return NO, filled
    letter = content[at + 1]
    if letter != LETTER_U:
        out[filled] = ESCAPES[letter]
        return (at + 2 if ESCAPES[letter] else NO), filled + 1
    code, at = _unit(content, at + 2, end), at + 6
    if code == NO or 0xDC00 <= code < 0xE000:
        return NO, filled
    if code >= 0xD800 and code < 0xDC00:
        if at + 6 > end or content[at] != BACKSLASH or content[at + 1] != LETTER_U:
            return NO, filled
        low = _unit(content, at + 2, end)
        if low < 0xDC00 or low >= 0xE000:
            return NO, filled
        code, at = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), at + 6
    return at, _encoded(code, out, filled)


@compiled_bare
def _string(content: Bytes, at: int, end: int, out: Bytes, filled: int) -> tuple[int, int]:
    """A string, written out as what it says; also the end of what is written."""
    if not _stands(content, at, end, QUOTE):
        return NO, filled
    at += 1
    while at < end:
        byte = content[at]
        if byte >= SPACE and byte not in (QUOTE, BACKSLASH):
            out[filled] = byte
            filled += 1
            at += 1
        elif byte == QUOTE:
            return at + 1, filled
        elif byte == BACKSLASH:
            at, filled = _escape(content, at, end, out, filled)
            if at == NO:
                return NO, filled
        else:
            return NO, filled
    return NO, filled


@compiled_bare
def _digits(content: Bytes, at: int, end: int) -> int:
    while at < end and ZERO <= content[at] <= NINE:
        at += 1
    return at


@compiled_bare
def _whole(content: Bytes, at: int, end: int) -> int:
    """A whole number that fits into 64 bits, as it is written everywhere."""
    begin = at + 1 if _stands(content, at, end, MINUS) else at
    stop = _digits(content, begin, end)
    if begin < 0 or stop == begin or stop - begin > MAX_DIGITS or (content[begin] == ZERO and stop - at > 1):
        return NO
    return stop


@compiled_bare
def _object(content: Bytes, at: int, end: int) -> int:
    """An object, by its brackets; what is between them may not be JSON."""
    if not _stands(content, at, end, BEGIN):
        return NO
    depth, inside = 0, False
    while at < end:
        byte = content[at]
        if byte == QUOTE:
            inside = not inside
        elif byte == BACKSLASH:
            at += 1
        elif not inside and byte in (BEGIN, OPEN):
            depth += 1
        elif not inside and byte in (END, CLOSE):
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return NO


@compiled_bare
def _speaker(content: Bytes, begin: int, end: int, speakers: Places, num_speakers: int) -> int:
    """The number of a speaker by name: one met before, or the next, then noted; NO where there are too many."""
    for number in range(num_speakers):
        known, stop = speakers[number, 0], speakers[number, 1]
        if stop - known == end - begin and _literal(content, begin, end, content[known:stop]) == end:
            return number
    if begin < 0 or end < 0 or num_speakers == MAX_SPEAKERS:
        return NO
    speakers[num_speakers, 0], speakers[num_speakers, 1] = begin, end
    return num_speakers


@compiled_bare
def _turn(
    content: Bytes, at: int, end: int, speaker_key: Bytes, text_key: Bytes,
    out: Bytes, filled: int, speakers: Places, num_speakers: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """A turn: where it ends, the end of what is written, the speaker's number, the weight."""
    speaker, weight, is_said, is_weighed = NO, UNWEIGHED, False, False
    at = _sign(content, at, end, BEGIN)
    while at != NO:
        begin, stop = at + 1, _name(content, at, end)
        value = _sign(content, stop + 1, end, COLON) if stop != NO else NO
        if speaker == NO and _is(content, begin, stop, speaker_key):
            stop = _name(content, value, end)
            speaker = _speaker(content, value + 1, stop, speakers, num_speakers)
            at = stop + 1 if speaker != NO else NO
        elif not is_said and _is(content, begin, stop, text_key):
            is_said = True
            at, filled = _string(content, value, end, out, filled)
        elif not is_weighed and _is(content, begin, stop, WEIGHT):
            is_weighed = True
            at = _literal(content, value, end, NULL)
            if _stands(content, value, end, ZERO) or _stands(content, value, end, ONE):
                at, weight = value + 1, int(content[value]) - int(ZERO)
        else:
            break
        at = _blank(content, at, end)
        if _stands(content, at, end, END):
            return (at + 1 if speaker != NO and is_said else NO), filled, speaker, weight
        at = _sign(content, at, end, COMMA)
    return NO, filled, speaker, weight


@compiled_bare
def _turns(
    content: Bytes, at: int, end: int, speaker_key: Bytes, text_key: Bytes,
    out: Bytes, filled: int, speakers: Places, num_speakers: int, turns: Places, num_turns: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """A list of turns, put into `turns` behind `num_turns`: where it ends, and how much is now held of each kind."""
    at = _sign(content, at, end, OPEN)
    while at != NO:
        at, filled, speaker, weight = _turn(
            content, at, end, speaker_key, text_key, out, filled, speakers, num_speakers
        )
        turns[num_turns, 0], turns[num_turns, 1], turns[num_turns, 2] = filled, speaker, weight
        num_turns, num_speakers = num_turns + 1, max(num_speakers, speaker + 1)
        at = _blank(content, at, end)
        if _stands(content, at, end, CLOSE):
            return at + 1, filled, num_speakers, num_turns
        at = _sign(content, at, end, COMMA)
    return NO, filled, num_speakers, num_turns


@compiled_bare
def _read(
    content: Bytes, begins: Places, ends: Places, keys: tuple[Bytes, Bytes, Bytes],
    taken: Flags, out: Bytes, turns: Places, upto: Places, about: Places, speakers: Places,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Fills the arrays of a Reading; returns how far `out`, `turns`, `upto` and `speakers` are filled."""
    turns_key, speaker_key, text_key = keys
    filled = num_turns = num_lines = num_speakers = 0
    for line in range(len(begins)):
        end, first_turn, first_byte = ends[line], num_turns, filled
        has_turns = has_id = has_user = has_meta = False
        about[num_lines] = 0
        at = _sign(content, begins[line], end, BEGIN)
        while at != NO:
            begin, stop = at + 1, _name(content, at, end)
            value = _sign(content, stop + 1, end, COLON) if stop != NO else NO
            if not has_turns and _is(content, begin, stop, turns_key):
                has_turns = True
                at, filled, num_speakers, num_turns = _turns(
                    content, value, end, speaker_key, text_key, out, filled, speakers, num_speakers, turns, num_turns
                )
            elif not has_id and _is(content, begin, stop, ID):
                has_id, is_quoted = True, _stands(content, value, end, QUOTE)
                stop = _name(content, value, end) if is_quoted else _whole(content, value, end)
                about[num_lines, 0], about[num_lines, 1] = value + is_quoted, stop
                at = stop + is_quoted if stop != NO else NO
                if stop == NO:
                    about[num_lines, 0], about[num_lines, 1] = 0, 0
                    at = _literal(content, value, end, NULL)
            elif not has_user and _is(content, begin, stop, USER):
                has_user, at = True, _object(content, value, end)
                about[num_lines, 2], about[num_lines, 3] = value, at
            elif not has_meta and _is(content, begin, stop, META):
                has_meta, at = True, _object(content, value, end)
                about[num_lines, 4], about[num_lines, 5] = value, at
            else:
                break
            at = _blank(content, at, end)
            if _stands(content, at, end, END):
                taken[line] = has_turns and _blank(content, at + 1, end) == end
                break
            at = _sign(content, at, end, COMMA)
        if taken[line]:
            upto[num_lines] = num_turns
            num_lines += 1
        else:
            num_turns, filled = first_turn, first_byte
    return filled, num_turns, num_lines, num_speakers


def read_lines(content: Bytes, begins: Places, ends: Places, keys: tuple[Bytes, Bytes, Bytes]) -> Reading:
    """Reads the lines that are in the plain form, which begin and end there, line breaks left out.

    `keys` are the members that hold the list of turns, and of a turn who speaks and what is said.
    """
    out, taken = np.empty(len(content), dtype=np.uint8), np.zeros(len(begins), dtype=np.bool_)
    turns = np.empty((len(content) // SMALLEST_TURN + 1, 3), dtype=np.int64)
    upto, about = np.empty(len(begins), dtype=np.int64), np.empty((len(begins) + 1, 6), dtype=np.int64)
    speakers = np.empty((MAX_SPEAKERS, 2), dtype=np.int64)
    filled = _read(content, begins, ends, keys, taken, out, turns, upto, about, speakers)
    num_bytes, num_turns, num_lines, num_speakers = filled
    return Reading(
        taken, out[:num_bytes], turns[:num_turns], upto[:num_lines], about[:num_lines], speakers[:num_speakers]
    )
