"""What JSON Lines files gain while a trainer writes them."""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from app.models import Json


@dataclass(frozen=True)
class Lines:
    """What a look at a JSONL file found; `from_start` where the file is another one than at the last look."""

    lines: list[Json]
    from_start: bool
    inode: int | None
    end: int

    @property
    def is_new(self) -> bool:
        return bool(self.lines) or self.from_start


class Tail:
    """The complete lines that a JSONL file gained; all of them again when it was cut back, which replaces the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._offset = 0

    def look(self) -> Lines:
        """What came since the last accepted look; a line that is still being written waits for the next."""
        try:
            with self._path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                from_start = inode != self._inode
                start = 0 if from_start else self._offset
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return Lines([], from_start=False, inode=self._inode, end=self._offset)
        complete = data[: data.rfind(b"\n") + 1]
        lines = [orjson.loads(line) for line in complete.splitlines()]
        return Lines(lines, from_start=from_start, inode=inode, end=start + len(complete))

    def accept(self, found: Lines) -> None:
        """The lines are where they belong: the next look goes on behind them."""
        self._inode, self._offset = found.inode, found.end
