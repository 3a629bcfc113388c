"""What every blob store offers."""

import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20


class StoreUnavailableError(OSError):
    """The store is away or refuses us; trying again later may help."""


@dataclass(frozen=True)
class BlobRef:
    """A stored blob's name and size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Kept:
    """A blob as listings tell it."""

    sha256: str
    bytes: int
    since: float
    """When it was stored, or set aside, last: seconds since 1970."""


class Store(ABC):
    """Content-addressed blobs. An absent one raises FileNotFoundError, a store that is away another OSError.

    A blob that is set aside is there as before for all who ask for it by name, which brings it back.
    """

    @abstractmethod
    def put(self, source: BinaryIO) -> BlobRef:
        """Stores what `source` holds from its current position on; memory does not grow with it."""

    @abstractmethod
    def path(self, sha256: str) -> Path:
        """A local, read-only path to the blob; open it within minutes, a cache may drop it later."""

    @abstractmethod
    def chunks(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The blob's bytes from `start` up to `end` (exclusive), at most 1 MiB at a time and never cached.

        An absent blob is told at once, not at the first chunk.
        """

    @abstractmethod
    def kept(self) -> Iterator[Kept]:
        """Every blob that is not set aside, in no order."""

    @abstractmethod
    def aside(self) -> Iterator[Kept]:
        """Every blob that is set aside, in no order."""

    @abstractmethod
    def set_aside(self, blob: Kept) -> bool:
        """Sets a blob aside; False where it was stored again, or taken away, since it was listed."""

    @abstractmethod
    def take_back(self, sha256: str) -> bool:
        """Ends a blob's being aside; False where it was not."""

    @abstractmethod
    def remove_aside(self, sha256: str) -> None:
        """Removes a blob that is set aside, for good."""

    @abstractmethod
    def remove_unfinished(self, before: float) -> None:
        """Removes what was being stored at a time when its writer died."""

    @abstractmethod
    def check(self) -> None:
        """Raises an OSError within seconds if blobs can neither be read nor written now."""

    def put_file(self, path: Path) -> BlobRef:
        """Stores a finished file."""
        with path.open("rb") as source:
            return self.put(source)

    def materialise(self, sha256: str, target: Path) -> None:
        """Makes the blob appear at `target`, as a hard link where the file system allows it."""
        blob = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            try:
                os.link(blob, temporary)
            except OSError:
                shutil.copyfile(blob, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)  # also where `target` was this very file and replace did nothing


def checked_name(sha256: str) -> str:
    """`sha256` if it can name a blob, so that no name ever leads out of the store."""
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError("a blob is named by 64 hexadecimal digits")
    return sha256


def checked_range(start: int, end: int | None, size: int) -> tuple[int, int]:
    """The part of `size` bytes that `start` and `end` name; empty where they lie beyond it."""
    if start < 0 or (end is not None and end < 0):
        raise ValueError("a range starts and ends at 0 or later")
    return start, size if end is None else min(end, size)
