"""When keys were last used, written for all of them at once every few seconds: a request never waits for it."""

import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

import anyio
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from app.db import writing
from app.models import ApiKey

log = logging.getLogger(__name__)

WRITE_EVERY_S = 5.0


class LastUsed:
    """This process's uses of keys that the database does not know of yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        """The key is used now."""
        with self._lock:
            self._used[key_id] = time.time()

    def write(self) -> None:
        """Writes what was noted; while the database is away it waits for the next time."""
        with self._lock:
            used, self._used = self._used, {}
        if not used:
            return
        try:
            with writing() as session:
                for key_id, used_at in sorted(
                    used.items()
                ):  # in one order, so that two processes cannot lock each other
                    older = ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at < used_at)
                    session.execute(update(ApiKey).where(ApiKey.id == key_id, older).values(last_used_at=used_at))
        except SQLAlchemyError as error:
            log.warning("last uses of %d keys wait for the database: %s", len(used), type(error).__name__)
            with self._lock:
                self._used = {**used, **self._used}


@lru_cache(maxsize=1)
def last_used() -> LastUsed:
    """This process's own."""
    return LastUsed()


@asynccontextmanager
async def written_regularly() -> AsyncIterator[None]:
    """Writes every few seconds while the block runs, and once more at its end."""

    async def write() -> None:
        while True:
            await anyio.sleep(WRITE_EVERY_S)
            await anyio.to_thread.run_sync(last_used().write)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        yield
        tasks.cancel_scope.cancel()
    last_used().write()
