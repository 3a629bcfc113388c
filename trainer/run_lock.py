"""Who is in a run directory: one owner at a time, and no rank that outlives the owner which started it."""

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
LAUNCHER = "TALKMILL_LAUNCHER_PID"
"""Tells ranks whose children they are: a rank whose launcher died before the rank could ask would not know."""


def die_with_launcher() -> None:
    """Asks the kernel to kill this rank when its launcher dies, stopped or not; exits if it has died already."""
    die_with_parent(int(os.environ.get(LAUNCHER, os.getppid())))


def die_with_parent(parent: int) -> None:
    """Asks the kernel to kill this process when `parent`, which started it, dies; exits if it has died already.

    The kernel watches the thread that started this process: its parent's main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(1)


class RunLock:
    """The run directory's lock: its ranks share it, and a new owner waits until none of the old ones is left.

    Two files: owners queue at `owner.lock` and ranks hold `lock`. With one file, an owner that goes from exclusive to
    shared lets another one in between.
    """

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._owner, self._ranks = (
            os.open(run_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644) for name in ("owner.lock", "lock")
        )

    def own(self) -> None:
        """Waits until nobody else is in the directory, then keeps other owners out until this process ends."""
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        fcntl.flock(self._ranks, fcntl.LOCK_EX)
        fcntl.flock(self._ranks, fcntl.LOCK_UN)

    def try_own(self) -> bool:
        """Does so if nobody else is there now; False where one would have to wait."""
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(self._ranks, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._owner, fcntl.LOCK_UN)
            return False
        fcntl.flock(self._ranks, fcntl.LOCK_UN)
        return True

    def join(self) -> None:
        """Enters the directory as one of its owner's ranks, until this process ends."""
        fcntl.flock(self._ranks, fcntl.LOCK_SH)

    def release(self) -> None:
        """Lets the next owner in."""
        os.close(self._owner)
        os.close(self._ranks)
