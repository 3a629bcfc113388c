"""A real stack: `talkmill up` as a process of its own, on free ports, in a new folder."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from app import process

ROOT = Path(__file__).parent.parent
STATUSES_AT_THE_END = ("processed", "error", "succeeded", "failed", "cancelled")


class RunningStack:
    """A `talkmill up` process, which ends with this one, and a client with its admin key."""

    def __init__(self, folder: Path, *, workers: int = 1, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "app.cli", "up", "--data", str(folder), "--port", "0"]
        command += ["--workers", str(workers)]
        self.env = {**os.environ, **(env or {})}
        self.process = process.start(command, on_parent_death=signal.SIGTERM, log=folder / "up.log", env=self.env)
        self.wait_until(lambda: self.is_up() or self.process.poll() is not None, 120)
        assert self.process.poll() is None, (folder / "up.log").read_text()
        # Where more connections are kept than allowed, httpcore closes one that another thread is about to use.
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=None)
        self.http = httpx.Client(
            base_url=f"{self.state['url']}/v1", timeout=60, headers=self.authorization, limits=limits
        )

    def is_up(self) -> bool:
        """Whether this very process has announced itself; a killed one leaves its announcement behind."""
        return (self.folder / "stack.json").exists() and self.state["pid"] == self.process.pid

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.folder / "stack.json").read_bytes())
        return state

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.folder / 'admin.key').read_text()}"}

    def family(self) -> list[psutil.Process]:
        """Every process that belongs to the stack, training ranks included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, sig: signal.Signals = signal.SIGINT, timeout_s: float = 20) -> list[psutil.Process]:
        """Ends the stack; returns the processes still alive `timeout_s` later."""
        family = self.family() if self.process.poll() is None else []
        started = time.monotonic()
        self.process.send_signal(sig)
        self.process.wait(timeout_s)
        self.http.close()
        return psutil.wait_procs(family, timeout=max(0.0, timeout_s - (time.monotonic() - started)))[1]

    @staticmethod
    def wait_until(condition: Callable[[], object], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)

    def ended(self, path: str, timeout_s: float = 240) -> dict[str, Any]:
        """Waits for a resource to end; returns it."""
        deadline = time.monotonic() + timeout_s
        while True:
            resource: dict[str, Any] = self.get(path)
            if resource["status"] in STATUSES_AT_THE_END:
                return resource
            assert time.monotonic() < deadline, f"{path} is still {resource['status']}"
            time.sleep(0.2)

    def get(self, path: str, **params: Any) -> Any:
        response = self.http.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def upload(self, name: str, content: bytes, **form: str) -> dict[str, Any]:
        """Uploads and waits for the end of ingest."""
        form = {"purpose": "conversations", **form}
        response = self.http.post("/files", files={"file": (name, content)}, data=form)
        assert response.status_code in (200, 201), response.text
        return self.ended(f"/files/{response.json()['id']}")

    def version(self, *files: str, **body: Any) -> dict[str, Any]:
        """Makes a version of the files in a new dataset and waits for its end."""
        dataset = self.http.post("/datasets", json={"name": "test"}).json()
        response = self.http.post(f"/datasets/{dataset['id']}/versions", json={"files": list(files), **body})
        assert response.status_code == 202, response.text
        return self.ended(f"/versions/{response.json()['id']}")
