"""Where each rank is: a few numbers in a mapped file, which outlive the rank however it ends.

The launcher reads them to tell what a dead rank was doing, and whether the ranks still move.
"""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

FOLDER = "ranks"
_LAYOUT = struct.Struct("<5q")


class Phase(IntEnum):
    """What a rank is doing."""

    SETUP = 0
    RESUME = 1
    STEP = 2
    EVALUATE = 3
    SAVE = 4
    EXPORT = 5


@dataclass(frozen=True)
class Beat:
    """The last that a rank told of itself."""

    pid: int
    phase: Phase
    step: int
    micro: int
    """The micro-batch of the step, from 0."""
    at_s: float
    """By the machine's monotonic clock."""


class Beacon:
    """Tells where this rank is."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        path = _path(run_dir, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb+") as file:
            file.truncate(_LAYOUT.size)
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)
        self.beat(Phase.SETUP)

    def beat(self, phase: Phase, step: int = 0, micro: int = 0) -> None:
        """Tells that this begins now."""
        _LAYOUT.pack_into(self._map, 0, os.getpid(), phase, step, micro, time.monotonic_ns())


def read_beats(run_dir: Path) -> dict[int, Beat]:
    """By rank, what was told last."""
    beats = {}
    for path in (run_dir / FOLDER).glob("*.beacon"):
        content = path.read_bytes()
        if len(content) == _LAYOUT.size:
            pid, phase, step, micro, at = _LAYOUT.unpack(content)
            beats[int(path.stem)] = Beat(pid, Phase(phase), step, micro, at / 1e9)
    return beats


def forget_beat(run_dir: Path, rank: int) -> None:
    """Removes what an earlier rank of this number told."""
    _path(run_dir, rank).unlink(missing_ok=True)


def _path(run_dir: Path, rank: int) -> Path:
    return run_dir / FOLDER / f"{rank}.beacon"
