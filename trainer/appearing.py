"""Folders that are whole or not there, whenever the process that writes them is killed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which then takes the name of `folder` at once, whole and forced to disk.

    One that had the name is moved away first: half of it, while it is deleted, must not bear the name either.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    for left_over in (temporary, old):
        shutil.rmtree(left_over, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    for path in (*temporary.rglob("*"), temporary):
        _force_to_disk(path)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    _force_to_disk(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
