"""A real stack to be hurt: on SQLite with its own broker and folder, or on PostgreSQL, Valkey and S3."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch
from urllib.parse import urlsplit

import psutil
import redis
from chaos.scenario import SEGMENT_BYTES, Scenario
from running_stack import RunningStack
from servers import postgresql, s3, s3_client
from sqlalchemy.orm import Session

from app import broker, process
from app.crash import POINTS
from app.db import engine_for

Backend = Literal["sqlite", "postgresql"]
LEASE_S = 1.5
NUM_WORKERS = 3
BROKER_AWAY_S = 1.0
SETTINGS = {
    "TALKMILL_TEST_MODE": "1",
    "TALKMILL_CRASH_AT": ",".join(POINTS),
    "TALKMILL_SEGMENT_BYTES": str(SEGMENT_BYTES),
    "TALKMILL_LEASE_S": str(LEASE_S),
    "TALKMILL_SWEEP_EVERY_S": "0.5",
    "TALKMILL_NUDGE_AGAIN_S": "1",
    "TALKMILL_MAX_ATTEMPTS": "10",  # one shard may meet several of fifty kills
}


class Broker:
    """A Valkey that comes back to its address; what `talkmill up` does for the embedded one."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self._folder = folder
        self._config = broker.server_config(folder, port, "chaos")
        self.url = f"redis://:chaos@127.0.0.1:{port}/0"
        self._starter = ThreadPoolExecutor(1)  # a child ends with the thread that started it
        self.start()

    def start(self) -> None:
        """Starts it, with what it had on disk."""
        self._starter.submit(self._start).result()

    def kill(self) -> None:
        """Ends it as a power cut would."""
        process.kill_group(self._child)
        self._child.wait()

    def close(self) -> None:
        """Ends it for good."""
        self.kill()
        self._starter.shutdown()

    def _start(self) -> None:
        command = [broker.server_program(), "-"]
        self._child = process.start(
            command, on_parent_death=signal.SIGTERM, log=self._folder / "log", stdin=subprocess.PIPE
        )
        assert self._child.stdin is not None
        self._child.stdin.write(self._config)
        self._child.stdin.close()
        RunningStack.wait_until(lambda: broker.answers(self.url), 30)


@dataclass
class Arena:
    """A running stack, and the ways to hurt it and to look at it from outside."""

    backend: Backend
    stack: RunningStack
    scenario: Scenario
    rng: random.Random
    database_url: str
    blob: Callable[[str], bytes]
    """A blob's bytes, read without the service."""
    own_broker: Broker | None
    num_rounds: int = 0
    version: str | None = None
    """One that succeeded, to train on."""
    losses: list[float] | None = None
    """Of a training run on it that nothing disturbed."""
    training_s: float | None = None
    """What that run took, from the request to the published model."""

    @property
    def folder(self) -> Path:
        """The stack's data folder."""
        return self.stack.folder

    def session(self) -> Session:
        """A session of the service's database."""
        return Session(engine_for(self.database_url))

    def broker_url(self) -> str:
        """Where the broker answers, with its password."""
        if self.own_broker is not None:
            return self.own_broker.url
        return str(psutil.Process(self.stack.state["processes"]["api"]).environ()["TALKMILL_BROKER_URL"])

    def redis(self) -> "redis.Redis":
        """A client of the broker."""
        return redis.Redis.from_url(self.broker_url())

    def parts(self) -> list[str]:
        """Names of what can be killed: the parts of the stack, and the broker wherever it runs."""
        return sorted({*self.stack.state["processes"], "broker"})

    def kill(self, part: str) -> bool:
        """`kill -9` of a part; whether it was there."""
        if part == "broker" and self.own_broker is not None:
            self.own_broker.kill()
            time.sleep(BROKER_AWAY_S)
            self.own_broker.start()
            return True
        pid = self.stack.state["processes"].get(part)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def ranks(self) -> list[psutil.Process]:
        """The training processes under way, without their launcher."""
        found = []
        for child in self.stack.family():
            with suppress(psutil.Error):
                if child.environ().get("LOCAL_RANK") is not None:
                    found.append(child)
        return found

    def arm(self, point: str) -> None:
        """Lets the next process that comes to the point die there."""
        (self.folder / "crashed" / point).unlink()

    def has_crashed(self, point: str) -> bool:
        """Whether a process died at the point since it was armed."""
        return (self.folder / "crashed" / point).exists()

    def left_over(self) -> list[str]:
        """Command lines of processes that still live for this stack's folder."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error):
                if one.environ().get("TALKMILL_DATA_DIR") == str(self.folder) and one.status() != "zombie":
                    found.append(" ".join(one.cmdline()))
        return found


@contextmanager
def arena(
    backend: Backend, folder: Path, scenario: Scenario, *, seed: int = 0, env: dict[str, str] | None = None
) -> Iterator[Arena]:
    """A stack of the backend in `folder/stack`, which may be a mounted one; `env` is for it and its servers."""
    own = folder / "stack"
    (own / "crashed").mkdir(parents=True)
    for point in POINTS:
        (own / "crashed" / point).touch()
    settings = {**SETTINGS, **(env or {})}
    with ExitStack() as running:
        own_broker = None
        if backend == "postgresql":
            running.enter_context(patch.dict(os.environ, env or {}))
            database = running.enter_context(postgresql(folder / "postgresql"))
            store = running.enter_context(s3(folder / "s3"))
            own_broker = Broker(folder / "valkey")
            running.callback(own_broker.close)
            settings |= {**database.env, **store.env, "TALKMILL_BROKER_URL": own_broker.url}
        stack = RunningStack(own, workers=NUM_WORKERS, env=settings)
        running.callback(lambda: stack.process.poll() is None and stack.stop())
        url = settings.get("TALKMILL_DATABASE_URL", f"sqlite:///{own}/talkmill.db")
        running.callback(lambda: engine_for(url).dispose())
        yield Arena(backend, stack, scenario, random.Random(seed), url, _reader(settings, own), own_broker)


def _reader(settings: dict[str, str], folder: Path) -> Callable[[str], bytes]:
    if "TALKMILL_STORE_URL" not in settings:
        return lambda sha256: (folder / "store" / sha256[:2] / sha256[2:]).read_bytes()
    client: Any = s3_client(settings)
    url = urlsplit(settings["TALKMILL_STORE_URL"])
    prefix = url.path.strip("/")

    def read(sha256: str) -> bytes:
        key = f"{prefix}/{sha256[:2]}/{sha256[2:]}"
        content: bytes = client.get_object(Bucket=url.netloc, Key=key)["Body"].read()
        return content

    return read
