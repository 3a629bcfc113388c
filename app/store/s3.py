"""Blobs in a bucket of S3, or of anything that speaks its protocol: `PREFIX/ab/cdef…`.

Endpoint and credentials come from the usual `AWS_*` variables. An upload goes to `PREFIX/incoming/…` first, so the
bucket wants a lifecycle rule that drops old objects there and old incomplete multipart uploads: both are what a killed
process leaves.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from app.crash import crash_point
from app.store.blobs import CHUNK_BYTES, BlobRef, Kept, Store, StoreUnavailableError, checked_name, checked_range
from app.store.cache import BlobCache

PART_BYTES = 8 * CHUNK_BYTES
"""Of one request; S3 allows 10,000 of them in an upload."""
MAX_COPY_BYTES = 5 * 2**30
"""S3 copies no more than this inside the store."""
ASIDE = "aside"
FRESH = timedelta(hours=12)
"""An older blob is stored again, which renews its time: blobs without references are collected a day after it."""


class S3Store(Store):
    """Written once under a temporary key, measured, copied inside the store to its name."""

    def __init__(self, bucket: str, prefix: str, cache: BlobCache) -> None:
        self._bucket = _connect(bucket, prefix, retries=6, within_s=30, request_s=30)
        self._probe = _connect(bucket, prefix, retries=1, within_s=3, request_s=3)
        self._cache = cache

    def put(self, source: BinaryIO) -> BlobRef:
        chunks = iter(lambda: source.read(CHUNK_BYTES), b"")
        first = b"".join(islice(chunks, PART_BYTES // CHUNK_BYTES))
        second = next(chunks, None)
        return self._put_small(first) if second is None else self._put_large(chain((first, second), chunks))

    def put_file(self, path: Path) -> BlobRef:
        with path.open("rb") as source:
            blob = BlobRef(hashlib.file_digest(source, "sha256").hexdigest(), source.tell())
            if self._is_fresh(blob):
                return blob
            source.seek(0)
            return self.put(source)

    def path(self, sha256: str) -> Path:
        return self._cache.find(checked_name(sha256)) or self._cache.add(sha256, self.chunks(sha256))

    def chunks(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with _outages():
            size = self._size(sha256)
            if size is None and self.take_back(sha256):
                size = self._size(sha256)
            if size is None:
                raise FileNotFoundError(f"no blob {sha256} in the store")
        return self._read(_key(sha256), *checked_range(start, end, size))

    def kept(self) -> Iterator[Kept]:
        for path, blob in self._listed(None):
            if path == _key_or_none(blob.sha256):
                yield blob

    def aside(self) -> Iterator[Kept]:
        for _, blob in self._listed(ASIDE):
            yield blob

    def set_aside(self, blob: Kept) -> bool:
        key = _key(blob.sha256)
        with _outages():
            try:
                self._copy(key, f"{ASIDE}/{blob.sha256}", blob.bytes)
                if obstore.head(self._bucket, key)["last_modified"].timestamp() == blob.since:
                    obstore.delete(self._bucket, key)
                    return True
            except FileNotFoundError:
                return False
            obstore.delete(self._bucket, f"{ASIDE}/{blob.sha256}")
        return False

    def take_back(self, sha256: str) -> bool:
        aside = f"{ASIDE}/{checked_name(sha256)}"
        with _outages():
            try:
                self._copy(aside, _key(sha256), obstore.head(self._bucket, aside)["size"])
                obstore.delete(self._bucket, aside)
            except FileNotFoundError:
                return False
        return True

    def remove_aside(self, sha256: str) -> None:
        with _outages(), suppress(FileNotFoundError):
            obstore.delete(self._bucket, f"{ASIDE}/{checked_name(sha256)}")

    def remove_unfinished(self, before: float) -> None:
        with _outages():
            for batch in obstore.list(self._bucket, "incoming"):
                old = [one["path"] for one in batch if one["last_modified"].timestamp() < before]
                if old:
                    obstore.delete(self._bucket, old)

    def check(self) -> None:
        with _outages():
            next(iter(obstore.list(self._probe, "incoming/", chunk_size=1)), None)

    def _listed(self, prefix: str | None) -> Iterator[tuple[str, Kept]]:
        """Objects and the blobs that their names may be."""
        with _outages():
            for batch in obstore.list(self._bucket, prefix):
                for one in batch:
                    name = one["path"].removeprefix(f"{ASIDE}/").replace("/", "")
                    yield one["path"], Kept(name, one["size"], one["last_modified"].timestamp())

    def _size(self, sha256: str) -> int | None:
        try:
            return int(obstore.head(self._bucket, _key(sha256))["size"])
        except FileNotFoundError:
            return None

    def _put_small(self, content: bytes) -> BlobRef:
        """One request, which is atomic."""
        blob = BlobRef(hashlib.sha256(content).hexdigest(), len(content))
        if not self._is_fresh(blob):
            with _outages():
                crash_point("blob_before_publishing")
                obstore.put(self._bucket, _key(blob.sha256), content, use_multipart=False)
        return blob

    def _put_large(self, chunks: Iterable[bytes]) -> BlobRef:
        digest, size = hashlib.sha256(), 0

        def measured() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        incoming = f"incoming/{secrets.token_hex(12)}"
        with _outages():
            # What goes wrong while `chunks` are read aborts the upload and passes through.
            obstore.put(self._bucket, incoming, measured(), chunk_size=PART_BYTES, max_concurrency=4)
            try:
                stored = obstore.head(self._bucket, incoming)["size"]
                if stored != size:
                    raise StoreUnavailableError(f"the store took {stored} bytes of {size}")
                blob = BlobRef(digest.hexdigest(), size)
                if not self._is_fresh(blob):
                    crash_point("blob_before_publishing")
                    self._copy(incoming, _key(blob.sha256), size)
            finally:
                obstore.delete(self._bucket, incoming)
        return blob

    def _is_fresh(self, blob: BlobRef) -> bool:
        """Whether the store has the blob, whole and young enough to be kept for a while without references."""
        with _outages():
            try:
                found = obstore.head(self._bucket, _key(blob.sha256))
            except FileNotFoundError:
                return False
        return found["size"] == blob.bytes and found["last_modified"] > datetime.now(UTC) - FRESH

    def _copy(self, source: str, target: str, size: int) -> None:
        if size <= MAX_COPY_BYTES:
            obstore.copy(self._bucket, source, target)
        else:  # through this process; the target appears when its last part has
            obstore.put(self._bucket, target, self._read(source, 0, size), chunk_size=PART_BYTES, max_concurrency=4)

    def _read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Asks for a part at a time, so that a reader who takes hours keeps no request open."""
        for position in range(start, end, PART_BYTES):
            with _outages():
                part = obstore.get_range(self._bucket, key, start=position, end=min(position + PART_BYTES, end))
            view = memoryview(part)
            for offset in range(0, len(view), CHUNK_BYTES):
                yield bytes(view[offset : offset + CHUNK_BYTES])


def _connect(bucket: str, prefix: str, *, retries: int, within_s: float, request_s: float) -> Bucket:
    return Bucket(
        bucket,
        prefix=prefix or None,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=3),
            "timeout": timedelta(seconds=request_s),
        },
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=within_s)},
    )


def _key(sha256: str) -> str:
    return f"{checked_name(sha256)[:2]}/{sha256[2:]}"


def _key_or_none(name: str) -> str | None:
    try:
        return _key(name)
    except ValueError:
        return None


@contextmanager
def _outages() -> Iterator[None]:
    """Faults of the store as the OSErrors that callers know."""
    try:
        yield
    except BaseError as error:
        raise StoreUnavailableError(f"the object store does not answer as it should: {type(error).__name__}") from error
