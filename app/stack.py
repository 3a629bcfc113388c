"""`talkmill up`: the whole service on one machine, supervised.

An embedded Valkey on TCP loopback (unless the settings name a broker), the API, curate workers and a training worker,
all children of this process. A child that dies is started again on the same port; when this process ends, even by
`kill -9`, all of them end.
"""

import fcntl
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson

from app import broker
from app.audit.log import record_command
from app.auth import SCOPES, create_key, is_known
from app.db import writing
from app.migrations import upgrade
from app.process import kill_group, start
from app.settings import Settings, get_settings

log = logging.getLogger(__name__)

GRACE_S = 15.0
"""How long children may take to end; a training run writes a checkpoint in it."""
MAX_BACKOFF_S = 10.0
HEALTHY_AFTER_S = 30.0
READY_TIMEOUT_S = 60.0


class StackError(RuntimeError):
    """The stack cannot start; the message says why and what to do."""


@dataclass
class Child:
    """A supervised process."""

    name: str
    command: list[str]
    on_parent_death: signal.Signals
    stdin: bytes | None = None
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    backoff_s: float = 0.5


@dataclass
class Stack:
    """The processes of one data folder."""

    data_dir: Path
    host: str
    port: int
    num_workers: int
    children: list[Child] = field(default_factory=list)
    _is_told: bool = False
    """Whether `stack.json` names the children that run now."""

    @property
    def url(self) -> str:
        """Where the API and the console answer."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def key_path(self) -> Path:
        """The file that holds the admin key and nothing else."""
        return self.data_dir / "admin.key"

    def run(self, stopping: threading.Event, on_ready: Callable[["Stack"], None]) -> None:
        """Starts everything, keeps it running until `stopping` is set, ends everything.

        Raises:
            StackError: another stack uses the folder, the port is taken, or a part does not come up.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "up.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(f"another `talkmill up` runs on {self.data_dir}: stop it or choose --data") from None
            (self.data_dir / "stack.json").unlink(missing_ok=True)  # of one that was killed
            self.port = _free_port(self.host, self.port)
            embedded = [] if get_settings().broker_url else [self._embed_broker()]
            self._configure()
            upgrade()
            self._write_admin_key()
            self.children = [*embedded, *self._plan()]
            try:
                for child in self.children:
                    self._start(child)
                self._wait_until_ready(stopping)
                if not stopping.is_set():
                    self._write_state()
                    on_ready(self)
                while not stopping.wait(0.3):
                    self._restart_dead()
            finally:
                self._end()

    def _embed_broker(self) -> Child:
        """A broker of our own, where the settings name none; its address goes where they look for it."""
        port, password = _free_port("127.0.0.1", 0), secrets.token_urlsafe(24)
        os.environ["TALKMILL_BROKER_URL"] = f"redis://:{password}@127.0.0.1:{port}/0"
        config = broker.server_config(self.data_dir / "broker", port, password)
        return Child("broker", [broker.server_program(), "-"], signal.SIGTERM, config)

    def _configure(self) -> None:
        """Settings reach the children, and this process, by the environment."""
        cores = os.cpu_count() or 1
        os.environ["TALKMILL_DATA_DIR"] = str(self.data_dir)
        os.environ.setdefault("POLARS_MAX_THREADS", str(max(1, cores // self.num_workers)))
        get_settings.cache_clear()

    def _plan(self) -> list[Child]:
        python = [sys.executable, "-m"]
        api = [*python, "app.cli", "serve", "--host", self.host, "--port", str(self.port)]
        worker = [*python, "worker", "--queues"]
        return [
            Child("api", api, signal.SIGKILL),
            *(Child(f"curate-{i + 1}", [*worker, "curate"], signal.SIGKILL) for i in range(self.num_workers)),
            Child("train", [*worker, "train"], signal.SIGKILL),
        ]

    def _start(self, child: Child) -> None:
        child.process = start(
            child.command,
            on_parent_death=child.on_parent_death,
            log=self.data_dir / "logs" / f"{child.name}.log",
            stdin=subprocess.PIPE if child.stdin is not None else None,
        )
        child.started_at = time.monotonic()
        if child.stdin is not None:
            assert child.process.stdin is not None
            child.process.stdin.write(child.stdin)
            child.process.stdin.close()

    def _restart_dead(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.start_again_at:
                    self._start(child)
                    self._is_told = False
                continue
            status = child.process.poll()
            if status is None:
                if now - child.started_at > HEALTHY_AFTER_S:
                    child.backoff_s = 0.5
                continue
            log.warning("%s ended with %d, starting it again in %.1f s", child.name, status, child.backoff_s)
            kill_group(child.process)
            child.process = None
            child.start_again_at = now + child.backoff_s
            child.backoff_s = min(2 * child.backoff_s, MAX_BACKOFF_S)
        if not self._is_told:
            with suppress(OSError):  # such as a full disk: told as soon as there is room
                self._write_state()

    def _wait_until_ready(self, stopping: threading.Event) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not stopping.is_set():
            for child in self.children:
                if child.process is None or child.process.poll() is not None:
                    raise StackError(f"{child.name} does not start: see {self.data_dir}/logs/{child.name}.log")
            try:
                if (
                    broker.answers(get_settings().broker_url)
                    and httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
                ):
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise StackError(f"the service is not ready after {READY_TIMEOUT_S:.0f} s: see {self.data_dir}/logs")
            stopping.wait(0.1)

    def _write_admin_key(self) -> None:
        """Makes the admin key once for a database; the file holds only the key and only its owner reads it."""
        if self.key_path.exists() and is_known(self.key_path.read_text()):
            return
        self.key_path.unlink(missing_ok=True)
        with writing() as session:
            key, token = create_key(session, "admin", sorted(SCOPES))
            record_command(session, "talkmill up", key.id)
            descriptor = os.open(self.key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(token)

    def _write_state(self) -> None:
        """Tells scripts where the stack answers and which processes belong to it."""
        pids = {child.name: child.process.pid for child in self.children if child.process is not None}
        temporary = self.data_dir / "stack.json.new"
        temporary.write_bytes(orjson.dumps({"url": self.url, "pid": os.getpid(), "processes": pids}))
        temporary.replace(self.data_dir / "stack.json")
        self._is_told = True

    def _end(self) -> None:
        """Ends the children, the broker last; what does not end in time is killed."""
        running = [child for child in self.children if child.process is not None]
        deadline = time.monotonic() + GRACE_S
        for group in ([c for c in running if c.name != "broker"], [c for c in running if c.name == "broker"]):
            for child in group:
                assert child.process is not None
                if child.process.poll() is None:
                    child.process.terminate()
            for child in group:
                assert child.process is not None
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.warning("%s does not end, killing it", child.name)
                kill_group(child.process)
                child.process.wait()
        (self.data_dir / "stack.json").unlink(missing_ok=True)


def run_stack(settings: Settings, host: str, port: int, num_workers: int, on_ready: Callable[[Stack], None]) -> None:
    """Runs the stack until SIGINT, SIGTERM or SIGHUP."""
    stopping = threading.Event()
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: stopping.set())
    Stack(settings.data_dir.absolute(), host, port, num_workers).run(stopping, on_ready)


def _free_port(host: str, port: int) -> int:
    """`port` if it can be bound, any free one for 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StackError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from None
        return int(probe.getsockname()[1])
