"""Blobs in a folder of this machine: `ab/cdef…`."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.crash import crash_point
from app.store.blobs import CHUNK_BYTES, BlobRef, Kept, Store, StoreUnavailableError, checked_name, checked_range


class LocalStore(Store):
    """Written to a temporary name, forced to disk, renamed: what has its name is complete after a power cut too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._aside = folder / "aside"

    def put(self, source: BinaryIO) -> BlobRef:
        temporary = self._incoming / secrets.token_hex(12)
        digest = hashlib.sha256()
        size = 0
        try:
            with temporary.open("wb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            blob = BlobRef(digest.hexdigest(), size)
            crash_point("blob_before_publishing")
            self._publish(temporary, self._path(blob.sha256))
        finally:
            temporary.unlink(missing_ok=True)
        return blob

    def path(self, sha256: str) -> Path:
        path = self._path(sha256)
        if not path.is_file() and not self.take_back(sha256) and not path.is_file():
            raise FileNotFoundError(f"no blob {sha256} in the store")
        return path

    def chunks(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        path = self.path(sha256)
        return self._read(path, *checked_range(start, end, path.stat().st_size))

    def kept(self) -> Iterator[Kept]:
        for folder in self._folder.iterdir():
            if len(folder.name) == 2:
                yield from _listed(folder, folder.name)

    def aside(self) -> Iterator[Kept]:
        if self._aside.is_dir():
            yield from _listed(self._aside, "")

    def set_aside(self, blob: Kept) -> bool:
        self._aside.mkdir(exist_ok=True)
        path, aside = self._path(blob.sha256), self._aside / blob.sha256
        try:
            path.rename(aside)
            if aside.stat().st_mtime == blob.since:
                os.utime(aside)
                return True
        except FileNotFoundError:  # or brought back by somebody who asked for it
            return False
        self.take_back(blob.sha256)
        return False

    def take_back(self, sha256: str) -> bool:
        path = self._path(sha256)
        try:
            (self._aside / sha256).rename(path)
        except FileNotFoundError:
            return False
        os.utime(path)
        return True

    def remove_aside(self, sha256: str) -> None:
        (self._aside / checked_name(sha256)).unlink(missing_ok=True)

    def remove_unfinished(self, before: float) -> None:
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()

    def check(self) -> None:
        if not os.access(self._incoming, os.R_OK | os.W_OK | os.X_OK):
            raise StoreUnavailableError("the store's folder is gone or cannot be written to")

    def _path(self, sha256: str) -> Path:
        return self._folder / checked_name(sha256)[:2] / sha256[2:]

    @staticmethod
    def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
        with path.open("rb") as source:
            source.seek(start)
            while start < end and (chunk := source.read(min(CHUNK_BYTES, end - start))):
                start += len(chunk)
                yield chunk

    @staticmethod
    def _publish(temporary: Path, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        temporary.chmod(0o444)
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _listed(folder: Path, prefix: str) -> Iterator[Kept]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found = entry.stat()
                yield Kept(f"{prefix}{entry.name}", found.st_size, found.st_mtime)
