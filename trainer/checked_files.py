"""Files that appear whole and folders that disappear at once.

A file is known by a checksum or, once that was compared, by a stamp that costs nothing.
"""

import hashlib
import os
import secrets
import shutil
from pathlib import Path

from typing_extensions import Buffer

Stamp = tuple[int, int, int]
"""Size in bytes, time of the last change in nanoseconds, inode: another one wherever a file was written again."""


def appear(path: Path, content: Buffer) -> Stamp:
    """Lets a file appear whole, whoever else writes the same one now; returns its stamp."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            stamp = _stamp(os.fstat(file.fileno()))
        temporary.replace(path)
        return stamp
    except OSError:  # a disk that is full should not stay so because of us
        temporary.unlink(missing_ok=True)
        raise


def disappear(folder: Path) -> None:
    """Removes a folder, which from the first moment on does not bear its name any more: half of one never looks whole.

    What a death leaves of it has a point before its name.
    """
    hidden = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def stamp_if_whole(path: Path, sha256: str) -> Stamp | None:
    """The stamp of a file that has this checksum; None where it is missing or has another one."""
    try:
        with path.open("rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))
            return stamp if hashlib.file_digest(file, "sha256").hexdigest() == sha256 else None
    except OSError:
        return None


def is_whole(path: Path, sha256: str, known: Stamp | None = None) -> bool:
    """Whether a file is what was written: it bears the stamp that is known to be right, else its checksum is."""
    try:
        if known is not None and _stamp(path.stat()) == known:
            return True
    except OSError:
        return False
    return stamp_if_whole(path, sha256) is not None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino
