"""The blob store: bytes named by their SHA-256, written once, never changed.

`TALKMILL_STORE_URL` chooses where they lie: a folder (`local.py`), or a bucket of S3 or anything that speaks its
protocol (`s3.py`). A blob appears under its name only when it is complete.
"""

from functools import lru_cache
from pathlib import Path

from app.settings import get_settings
from app.store.blobs import CHUNK_BYTES, BlobRef, Store, StoreUnavailableError
from app.store.local import LocalStore

__all__ = ["CHUNK_BYTES", "BlobRef", "LocalStore", "Store", "StoreUnavailableError", "get_store"]


def get_store() -> Store:
    """The store that the settings name."""
    settings = get_settings()
    if settings.bucket is None:
        return _local(settings.store_dir)
    return _s3(*settings.bucket, settings.cache_dir, settings.cache_bytes)


@lru_cache(maxsize=2)
def _local(folder: Path) -> Store:
    return LocalStore(folder)


@lru_cache(maxsize=2)
def _s3(bucket: str, prefix: str, cache_dir: Path, cache_bytes: int) -> Store:
    from app.store.cache import BlobCache
    from app.store.s3 import S3Store

    return S3Store(bucket, prefix, BlobCache(cache_dir, cache_bytes))
