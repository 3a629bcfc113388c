"""CSV records over lines, read by Python's own parser.

A record that goes wrong (a quote that is never closed swallows line after line) costs its first line only: the lines
behind it are read anew.
"""

import csv
from collections import deque
from collections.abc import Iterator

from curation.formats.encodings import RecordError, decoded
from curation.formats.streams import MAX_LINE_BYTES, Line

MAX_RECORD_LINES = 100_000
"""Held in memory, and read anew where the record turns out not to be one."""


class _Lines(Iterator[str]):
    """Hands lines to the parser and remembers which ones the record at hand took."""

    def __init__(self, lines: Iterator[Line], encoding: str) -> None:
        self._lines, self._encoding = lines, encoding
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        if len(self.taken) > MAX_RECORD_LINES:
            raise RecordError("the record has too many lines")
        if line.content is None:
            raise RecordError(line.reason)
        return decoded(line.content, self._encoding)

    def give_back_all_but_first(self) -> None:
        self._again.extendleft(reversed(self.taken[1:]))


def read_rows(lines: Iterator[Line], encoding: str, delimiter: str) -> Iterator[tuple[Line, list[str] | RecordError]]:
    """(first line, cells) of each record, blank lines left out; or the reason why it cannot be read."""
    csv.field_size_limit(MAX_LINE_BYTES)
    source = _Lines(lines, encoding)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.taken = []
        try:
            row: list[str] | RecordError = next(reader)
        except StopIteration:
            return
        except (RecordError, csv.Error) as error:
            several = len(source.taken) > 1
            where = "a quoted cell that begins here is not closed properly" if several else str(error)
            row = RecordError(where)
            source.give_back_all_but_first()
        if row:
            yield source.taken[0], row
