"""Files known by checksum, or by a stamp once that was compared; folders that are there whole or not at all."""

import os
import resource
import threading
from pathlib import Path

import pytest

from trainer.checked_files import appear, disappear, is_whole, stamp_if_whole

SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""Of abc (FIPS 180-4, the first example)."""


def test_a_stamp_holds_until_the_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    stamp = appear(path, b"abc")
    assert stamp_if_whole(path, SHA256) == stamp
    assert is_whole(path, SHA256, stamp)
    assert is_whole(path, "another checksum", stamp), "with the right stamp nothing is read"
    path.write_bytes(b"abd")
    os.utime(path, ns=(0, stamp[1] + 1))
    assert not is_whole(path, SHA256, stamp)
    assert appear(path, b"abc") != stamp, "another inode"
    assert is_whole(path, SHA256, stamp), "read again, and right"
    path.unlink()
    assert not is_whole(path, SHA256, stamp)
    assert stamp_if_whole(path, SHA256) is None


def test_a_file_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            appear(tmp_path / "file", bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_disappears_is_never_seen_in_part(tmp_path: Path) -> None:
    folder, number = tmp_path / "step-5", 3_000
    (tmp_path / ".step-5.old").mkdir()  # what a death left behind
    (tmp_path / ".step-5.old" / "shard").touch()
    folder.mkdir()
    for index in range(number):
        (folder / str(index)).touch()
    remover = threading.Thread(target=disappear, args=(folder,))
    remover.start()
    seen = set()
    while remover.is_alive():
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            seen.add(0)
            continue
        found = len(os.listdir(opened))  # noqa: PTH208  (of this folder, whatever it is called by now)
        if folder.exists():
            seen.add(found)
        os.close(opened)
    assert seen <= {0, number}
    assert list(tmp_path.iterdir()) == []
