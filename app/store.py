"""The blob store: bytes named by their SHA-256, written once, never changed.

Local folder: `ab/cdef…`. A blob appears under its name only when it is complete and on disk.
"""

import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.settings import get_settings

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class BlobRef:
    """A stored blob's name and size."""

    sha256: str
    bytes: int


class Store:
    """Content-addressed blobs in a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def put(self, source: BinaryIO) -> BlobRef:
        """Stores what `source` holds from its current position on; memory does not grow with it."""
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
            self._publish(temporary, self._path(blob.sha256))
        finally:
            temporary.unlink(missing_ok=True)
        return blob

    def put_file(self, path: Path) -> BlobRef:
        """Stores a finished file."""
        with path.open("rb") as source:
            return self.put(source)

    def path(self, sha256: str) -> Path:
        """A local, read-only path to the blob.

        Raises:
            FileNotFoundError: the store has no such blob.
        """
        path = self._path(sha256)
        if not path.is_file():
            raise FileNotFoundError(f"no blob {sha256} in the store")
        return path

    def materialise(self, sha256: str, target: Path) -> None:
        """Makes the blob appear at `target`, as a hard link where the file system allows it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            os.link(self.path(sha256), temporary)
        except OSError:
            shutil.copyfile(self.path(sha256), temporary)
        temporary.replace(target)

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise ValueError("a blob is named by 64 hexadecimal digits")
        return self._folder / sha256[:2] / sha256[2:]

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


def get_store() -> Store:
    """The store that the settings name."""
    return Store(Path(get_settings().store_path))
