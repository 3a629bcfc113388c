"""Freed memory goes back to the system when asked for."""

import platform
from pathlib import Path

import pytest

from curation.memory import give_back

PIECE_BYTES, PIECES = 1 << 12, 1 << 14
"""Pieces so small that the C library keeps them; 64 MiB together."""


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text("utf-8").split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_freed_memory_is_given_back() -> None:
    pieces = [bytearray(PIECE_BYTES) for _ in range(PIECES)]
    last = bytearray(PIECE_BYTES)
    pieces.clear()
    give_back()
    before = _resident_bytes()
    pieces = [bytearray(PIECE_BYTES) for _ in range(PIECES)]
    grown = _resident_bytes() - before
    pieces.clear()
    give_back()
    assert grown > PIECE_BYTES * PIECES // 2
    assert _resident_bytes() - before < grown // 4
    assert last == bytearray(PIECE_BYTES)
