"""Chat with a finished model: generation runs in a child process of its own, kept warm for a while.

One thread starts the children, since the kernel ties a child's life to the thread that started it. A child that died
is started again once; what it writes to stderr goes to a log file, never to the user.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.errors import Unavailable, Unprocessable
from app.process import kill_group
from app.settings import get_settings

MAX_CHILDREN = 2
TIMEOUT_S = 120.0


@dataclass
class _Child:
    process: "subprocess.Popen[bytes]"
    lock: threading.Lock = field(default_factory=threading.Lock)
    used_at: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


class Generators:
    """The generation processes of this service process, by model."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="generators")
        self._children: OrderedDict[tuple[str, ...], _Child] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, run_dir: Path, checkpoint: Path | None, request: dict[str, Any]) -> dict[str, Any]:
        """The model's answer to one request.

        Raises:
            Unprocessable: the model cannot answer this request.
            Unavailable: the process died twice or took too long.
        """
        for _ in range(2):
            child = self._child(run_dir, checkpoint)
            with child.lock:
                answer = _exchange(child, request)
            if answer is not None:
                if "error" in answer:
                    raise Unprocessable(f"messages: {answer['error']}", param="messages")
                return answer
        raise Unavailable("the model's process does not answer: try again", code="generation_failed")

    def close(self) -> None:
        """Ends every child."""
        with self._lock:
            for child in self._children.values():
                kill_group(child.process)
                child.process.wait()
            self._children.clear()
        self._starter.shutdown()

    def _child(self, run_dir: Path, checkpoint: Path | None) -> _Child:
        command = [sys.executable, "-m", "trainer", "generate", str(run_dir)]
        if checkpoint is not None:
            command += ["--checkpoint", str(checkpoint)]
        key = tuple(command)
        with self._lock:
            self._retire()
            child = self._children.get(key)
            if child is None or not child.alive:
                while len(self._children) >= MAX_CHILDREN:
                    _, oldest = self._children.popitem(last=False)
                    kill_group(oldest.process)
                    oldest.process.wait()
                child = self._children[key] = self._starter.submit(
                    _start, command, run_dir.parent / "chat.log"
                ).result()
            child.used_at = time.monotonic()
            self._children.move_to_end(key)
            return child

    def _retire(self) -> None:
        idle_since = time.monotonic() - get_settings().chat_idle_s
        for key, child in list(self._children.items()):
            if not child.alive or child.used_at < idle_since:
                kill_group(child.process)
                child.process.wait()
                del self._children[key]


@lru_cache(maxsize=1)
def generators() -> Generators:
    """This process's generators."""
    return Generators()


def _start(command: list[str], log: Path) -> _Child:
    log.parent.mkdir(parents=True, exist_ok=True)
    wrapper = [sys.executable, "-m", "app.process", signal.SIGKILL.name, str(os.getpid()), "--", *command]
    with log.open("ab") as errors:
        return _Child(
            subprocess.Popen(
                wrapper, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        )


def _exchange(child: _Child, request: dict[str, Any]) -> dict[str, Any] | None:
    """Sends a request and reads its answer; None when the child is gone or silent."""
    stdin, stdout = child.process.stdin, child.process.stdout
    assert stdin is not None
    assert stdout is not None
    try:
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        deadline = time.monotonic() + TIMEOUT_S
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(stdout.fileno(), 1 << 16) if ready else b""
            if not chunk:
                kill_group(child.process)
                return None
            line += chunk
    except BrokenPipeError:
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer
