"""What this machine keeps of a store that lies elsewhere: a bounded folder of blobs, shared by its processes."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from app.store.blobs import StoreUnavailableError

IN_USE_S = 600.0
"""A blob asked for within this time is never dropped: whoever asked may not have opened it yet."""


class BlobCache:
    """Blobs by their SHA-256; a file's modification time is when it was last asked for."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._unseen_bytes = max_bytes  # the first addition looks at what earlier processes left

    def find(self, sha256: str) -> Path | None:
        """The blob's path, if it is here."""
        path = self._folder / sha256
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def add(self, sha256: str, chunks: Iterable[bytes]) -> Path:
        """Writes the blob, checks it against its name, and drops others where there are too many bytes.

        Raises:
            StoreUnavailableError: the bytes are not those that the name promises.
        """
        path = self._folder / sha256
        temporary = self._folder / f".{secrets.token_hex(12)}"
        digest = hashlib.sha256()
        try:
            with temporary.open("wb") as target:
                for chunk in chunks:
                    digest.update(chunk)
                    target.write(chunk)
                size = target.tell()
                target.flush()
                os.fsync(target.fileno())  # a file that a power cut emptied would be believed for ever
            if digest.hexdigest() != sha256:
                raise StoreUnavailableError(f"the store's blob {sha256} has other bytes than its name says")
            temporary.chmod(0o444)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._unseen_bytes += size
        if self._unseen_bytes > self._max_bytes // 32:
            self._evict()
        return path

    def _evict(self) -> None:
        """Drops what was asked for least recently, and what a killed download left, until the rest fits.

        Unlinking harms nobody who has the file open or linked elsewhere.
        """
        self._unseen_bytes = 0
        with os.scandir(self._folder) as entries:
            files = sorted((entry.stat().st_mtime, entry.stat().st_size, entry.name) for entry in entries)
        too_many = sum(size for _, size, _ in files) - self._max_bytes
        for used_at, size, name in files:
            if too_many <= 0 or used_at > time.time() - IN_USE_S:
                return
            path = self._folder / name
            if path.stat().st_mtime == used_at:
                path.unlink()
                too_many -= size
