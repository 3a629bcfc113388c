"""The elements of a JSON array of any size, found by brackets and strings alone.

So only one element is held at a time, and one that is no valid JSON inside costs only itself.
"""

import re
from collections.abc import Iterator

from curation.formats.streams import MAX_LINE_BYTES, BrokenStreamError

TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]|"', re.DOTALL)
"""A whole string, a bracket, or the quote of a string that goes on in the next chunk."""
INSIDE = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+([\[\]{}"])?', re.DOTALL)
"""The same without whole strings, from where the scan is: within an element only brackets matter."""
BETWEEN = b" \t\r\n,"
TOO_LONG = f"the record is longer than {MAX_LINE_BYTES // 2**20} MiB: split the conversation"
STRAY = "between the array's elements stands what is no object"
UNBALANCED = "the array ends within this record: its brackets, or the file, are not complete"

Element = tuple[int, int, bytes | str]
"""Line, offset, and the bytes; or in their place a reason."""


def read_elements(chunks: Iterator[bytes]) -> Iterator[Element]:
    """Each element of the array."""
    array = _Array()
    try:
        for chunk in chunks:
            yield from array.feed(chunk)
    except BrokenStreamError as error:
        yield array.here(str(error))
    else:
        yield from array.end()


class _Array:
    """Where the scan is: `data` holds the open element, or what stands behind the last one."""

    def __init__(self) -> None:
        self.data, self.base, self.line = b"", 0, 1
        self.at = 0
        """Up to here tokens are read."""
        self.counted = 0
        """Up to here line breaks are in `line`."""
        self.done = 0
        """The end of the last element."""
        self.start: int | None = None
        """The beginning of the open element."""
        self.depth = 0
        self.too_long = False

    def feed(self, chunk: bytes) -> Iterator[Element]:
        self.data += chunk
        while (token := self._token()) is not None:
            begin, end = token
            kind = self.data[begin : begin + 1]
            if kind == b'"' and end - begin == 1:
                self.at = begin
                break
            self.at = end
            if self.depth == 1 and self.start is None and kind not in b"]}":
                yield from self._stray(begin)
                self.start = begin
            self.depth += (kind in b"[{") - (kind in b"]}")
            if self.depth == 1 and self.start is not None:
                yield self._element(end)
            elif self.depth <= 1 and self.start is None:
                if kind in b"]}":
                    yield from self._stray(begin)
                self.done = end
        else:
            self.at = len(self.data)
        yield from self._trim()

    def _token(self) -> tuple[int, int] | None:
        """Where the next token stands; None if there is none in the data."""
        if self.depth > 1:
            inside = INSIDE.match(self.data, self.at)
            return None if inside is None or inside[1] is None else inside.span(1)
        token = TOKEN.search(self.data, self.at)
        return None if token is None else token.span()

    def end(self) -> Iterator[Element]:
        if self.start is not None or self.depth > 0:
            yield self.here(UNBALANCED)
        else:
            yield from self._stray(len(self.data))

    def here(self, reason: str) -> Element:
        """A reason at the open element, or behind the last one."""
        begin = self.done if self.start is None else self.start
        self._count(begin)
        return self.line, self.base + begin, reason

    def _element(self, end: int) -> Element:
        assert self.start is not None
        self._count(self.start)
        content: bytes | str = TOO_LONG if self.too_long else self.data[self.start : end]
        found = self.line, self.base + self.start, content
        self.start, self.done, self.too_long = None, end, False
        return found

    def _stray(self, end: int) -> Iterator[Element]:
        stray = self.data[self.done : end].lstrip(BETWEEN)
        if stray:
            self.done = end - len(stray)
            yield self.here(STRAY)

    def _count(self, to: int) -> None:
        if to > self.counted:
            self.line += self.data.count(b"\n", self.counted, to)
            self.counted = to

    def _trim(self) -> Iterator[Element]:
        """Forgets what is read; of an element that is too long, all but where it stands."""
        if self.start is None and self.at - self.done > MAX_LINE_BYTES:
            yield from self._stray(self.at)
            self.done = self.at
        if self.start is not None and len(self.data) - self.start > MAX_LINE_BYTES:
            self.too_long = True
            self._count(len(self.data))
            open_string = self.data[self.at : self.at + 1] == b'"'
            backslashes = self.data[len(self.data.rstrip(b"\\")) :]
            rest = b'"' + backslashes if open_string else b""
            self.base += len(self.data) - len(rest)
            self.data, self.at, self.start, self.counted, self.done = rest, 0, 0, len(rest), 0
            return
        keep = self.done if self.start is None else self.start
        self._count(keep)
        self.data, self.base = self.data[keep:], self.base + keep
        self.at, self.counted, self.done = self.at - keep, 0, max(0, self.done - keep)
        self.start = None if self.start is None else 0
