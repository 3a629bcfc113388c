"""Checkpoints on their way to the store, from a thread of their own: a large one takes longer than a heartbeat.

A checkpoint's files are linked aside first, so that the trainer may prune it meanwhile. Nothing here stops a training:
a store that is away is tried again.
"""

import logging
import os
import queue
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import orjson

from app.models import Json
from app.store import get_store
from worker.mirror import StoredCheckpoint

log = logging.getLogger(__name__)

POLL_S = 0.5
ASIDE = ".uploading"
BESIDE = ("tokenizer", "evaluation")
"""What else of the run directory a resumed run needs to be the same run."""


class Uploads:
    """Uploads every complete checkpoint of a run directory, the oldest first."""

    def __init__(self, run_dir: Path, known: Mapping[int, Json]) -> None:
        """`known` are the qualities of checkpoints, by step, that the store has from an earlier owner."""
        self._run_dir = run_dir
        self._done: dict[int, Json] = dict(known)
        self._stored: queue.SimpleQueue[StoredCheckpoint] = queue.SimpleQueue()
        self._over = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def stored(self) -> list[StoredCheckpoint]:
        """What was stored since the last call."""
        found = []
        while not self._stored.empty():
            found.append(self._stored.get())
        return found

    def end(self, *, in_a_hurry: bool) -> None:
        """The run has ended: waits until what is left is stored, too, unless it is somebody else's by now."""
        self._over.set()
        if in_a_hurry:
            self._abandoned = True
        else:
            self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._over.wait(POLL_S)
            for step, folder in sorted(self._complete().items()):
                if self._abandoned:
                    return
                try:
                    self._store(step, folder)
                except OSError as error:
                    log.warning("checkpoint of step %d is not in the store yet: %s", step, type(error).__name__)
                    break

    def _complete(self) -> dict[int, Path]:
        folders = (self._run_dir / "checkpoints").glob("step-*")
        return {int(f.name.removeprefix("step-")): f for f in folders if (f / "quality.json").exists()}

    def _store(self, step: int, folder: Path) -> None:
        aside = self._run_dir / ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        try:
            quality = orjson.loads((folder / "quality.json").read_bytes())
            if self._done.get(step) == quality:
                return
            shutil.copytree(folder, aside, copy_function=os.link)
        except FileNotFoundError:
            return  # pruned just now
        files = self._put(aside, f"checkpoints/{folder.name}")
        for name in BESIDE:
            files += self._put(self._run_dir / name, name)
        shutil.rmtree(aside)
        self._done[step] = quality
        self._stored.put(StoredCheckpoint(step, quality, files))

    @staticmethod
    def _put(folder: Path, name: str) -> list[Json]:
        files = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            blob = get_store().put_file(path)
            files.append({"name": f"{name}/{path.relative_to(folder)}", "sha256": blob.sha256, "bytes": blob.bytes})
        return files
