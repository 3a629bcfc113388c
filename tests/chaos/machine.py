"""The machine under the stack: its wall clock, and its disk."""

import importlib.util
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from chaos.arena import Arena
from chaos.rounds import Client, Loss, begin
from chaos.verdict import judge, judge_rest

HOUR_S = 3600
DISK_BYTES = 48 * 2**20
FULL_S = 5.0
CACHED_S = 1.5
"""How long a process may still go by the clock as it was."""


def faked_clock(folder: Path) -> dict[str, str]:
    """The environment of processes whose wall clock `set_clock` moves; the monotonic and boot clocks stay."""
    spec = importlib.util.find_spec("libfaketime")
    assert spec is not None, "no libfaketime: run `make setup-test`"
    assert spec.submodule_search_locations is not None
    library = Path(spec.submodule_search_locations[0]) / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    file = folder / "clock"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text("+0")
    file.chmod(0o644)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(folder: Path, offset_s: int) -> None:
    """Moves the wall clock of everything started with `faked_clock` of the folder."""
    new = folder / "clock.new"
    new.write_text(f"{offset_s:+d}")
    new.replace(folder / "clock")


def moved_clock(arena: Arena, classifier: str) -> str:
    """The wall clock jumps an hour ahead and two hours back while work runs, and the other way about."""
    root = arena.folder.parent
    try:
        for first in (HOUR_S, -HOUR_S):
            made = begin(arena, classifier)
            set_clock(root, first)
            time.sleep(CACHED_S)
            later = begin(arena, classifier)
            off = Client(arena).get(f"/files/{later.files[0]}")["created_at"] - time.time()
            if abs(off - first) > HOUR_S / 2:
                raise Loss(f"the service's clock is off by {off:.0f} s instead of {first}")
            set_clock(root, -first)
            judge(arena, made)
            judge(arena, later)
    finally:
        set_clock(root, 0)
    return "4 rounds"


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mounts a small file system at the folder; False where this user may not."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "talkmill-chaos", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full_disk(arena: Arena, classifier: str) -> str:
    """The disk of the data folder is full for a while."""
    filler = arena.folder / "filler"

    def fill() -> None:
        with filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    return _without_room(arena, classifier, fill, filler.unlink)


def no_writes(arena: Arena, classifier: str) -> str:
    """No process of the stack may write to a file for a while, as beyond a quota."""

    def limit(soft: int) -> None:
        for one in (*arena.stack.family(), psutil.Process(arena.stack.process.pid)):
            with suppress(psutil.Error):
                one.rlimit(psutil.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    return _without_room(arena, classifier, lambda: limit(4096), lambda: limit(resource.RLIM_INFINITY))


def _without_room(arena: Arena, classifier: str, fill: Callable[[], None], free: Callable[[], None]) -> str:
    """One round is under way when the room ends, another begins without any; both go on when there is room again."""
    made = begin(arena, classifier)
    with ThreadPoolExecutor(1) as beside:
        fill()
        arena.kill("curate-1")  # who starts it again has no room either
        try:
            later = beside.submit(begin, arena, classifier)
            time.sleep(FULL_S)
        finally:
            free()
        rounds = [made, later.result()]
    for one in rounds:
        judge(arena, one)
    judge_rest(arena)
    return f"{FULL_S:.0f} s without room, {len(rounds)} rounds"
