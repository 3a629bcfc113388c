"""Chat with a model: generation runs in a child process of its own, kept warm for a while.

At most `MAX_CHILDREN` models are in memory at once. A further one takes the place of an idle one; while all are
answering, it waits. One thread starts the children, since the kernel ties a child's life to the thread that started it.
A child that died is started again once; what it writes to stderr goes to a log file, never to the user.
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
    """Held by the request that is being answered."""
    num_users: int = 0
    """Requests that are being answered or wait for their turn."""
    used_at: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """Kills the process; its pipes stay open for the requests that still hold it, who then read its end."""
        if self.alive:
            kill_group(self.process)
            self.process.wait()
        if self.num_users == 0:
            for pipe in (self.process.stdin, self.process.stdout):
                with suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()


class Generators:
    """The generation processes of this service process, by model."""

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="generators")
        self._children: OrderedDict[tuple[str, ...], _Child] = OrderedDict()  # the least recently used first
        self._changed = threading.Condition()

    def ask(self, folder: Path, checkpoint: Path | None, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The model's answer to one request: lines of `delta` if it asks to `stream`, and the whole answer as the last.

        Args:
            folder: a model folder, or the run directory of `checkpoint`.
            checkpoint: folder of one of the run's checkpoints.
            request: as `trainer.generate.serve` takes it.

        Raises:
            Unprocessable: the model cannot answer this request.
            Unavailable: the process died twice or took too long, or every place is taken for too long.
        """
        command = ["generate", str(folder)]
        if checkpoint is not None:
            command += ["--checkpoint", str(checkpoint)]
        return self._ask(command, request, "messages")

    def score(self, folder: Path, conversations: list[dict[str, Any]]) -> list[float | None]:
        """Scores of conversations, as `trainer.reward.scoring.serve` tells them; raises as `ask` does."""
        (answer,) = self._ask(["score", str(folder)], {"conversations": conversations}, "conversations")
        scores: list[float | None] = answer["scores"]
        return scores

    def _ask(self, command: list[str], request: dict[str, Any], param: str) -> Iterator[dict[str, Any]]:
        """What the trainer's command, kept warm, answers to a request; `param` is what it must have been otherwise."""
        command = [sys.executable, "-m", "trainer", *command]
        for _ in range(2):
            num_lines = 0
            with self._child(command) as child, child.lock:
                for answer in _exchange(child, request):
                    if "error" in answer:
                        raise Unprocessable(f"{param}: {answer['error']}", param=param)
                    num_lines += 1
                    yield answer
                    if "delta" not in answer:
                        return
            if num_lines:
                break
        raise Unavailable("the model's process does not answer: try again", code="generation_failed")

    def close(self) -> None:
        """Ends every child."""
        with self._changed:
            for key in list(self._children):
                self._end(key)
        self._starter.shutdown()

    @contextmanager
    def _child(self, command: list[str]) -> Iterator[_Child]:
        """The model's process, which nobody ends while it is in use."""
        key = tuple(command)
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(key), TIMEOUT_S):
                raise Unavailable("all places for models are taken by others that answer: try again", code="busy")
            if key not in self._children:
                log = get_settings().data_dir / "logs" / "chat.log"
                self._children[key] = self._starter.submit(_start, command, log).result()
            child = self._children[key]
            child.num_users += 1
            self._children.move_to_end(key)
        try:
            yield child
        finally:
            with self._changed:
                child.num_users -= 1
                child.used_at = time.monotonic()
                if not child.alive:
                    child.end()
                self._changed.notify_all()

    def _has_room(self, key: tuple[str, ...]) -> bool:
        """Whether the model has a living process or may start one; ends idle ones where that makes the room."""
        idle_since = time.monotonic() - get_settings().chat_idle_s
        for other, child in list(self._children.items()):
            if not child.alive or (child.num_users == 0 and child.used_at < idle_since):
                self._end(other)
        if key in self._children or len(self._children) < MAX_CHILDREN:
            return True
        idle = next((other for other, child in self._children.items() if child.num_users == 0), None)
        if idle is not None:
            self._end(idle)
        return idle is not None

    def _end(self, key: tuple[str, ...]) -> None:
        self._children.pop(key).end()


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


def _exchange(child: _Child, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Sends a request and reads the lines of its answer; they end early when the child is gone or silent.

    A child whose answer nobody reads to its end is ended: what it still says would be taken for the next answer.
    """
    stdin, stdout = child.process.stdin, child.process.stdout
    assert stdin is not None
    assert stdout is not None
    is_whole = False
    try:
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        for line in _lines(stdout.fileno(), time.monotonic() + TIMEOUT_S):
            answer: dict[str, Any] = json.loads(line)
            is_whole = "delta" not in answer
            yield answer
            if is_whole:
                return
    except BrokenPipeError:
        return
    finally:
        if not is_whole:
            kill_group(child.process)
            child.process.wait()  # until it is seen as dead, so that the next try starts another


def _lines(pipe: int, deadline: float) -> Iterator[bytes]:
    """Lines that come until the deadline.

    Raises:
        BrokenPipeError: the writer is gone, or the deadline has passed.
    """
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(pipe, 1 << 16) if ready else b""
        if not chunk:
            raise BrokenPipeError
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
