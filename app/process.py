"""Child processes that never outlive their parent.

`start` runs a command through this module (`python -m app.process SIGNAL PARENT -- COMMAND …`): the kernel is asked to
signal the process when the parent dies, which survives `exec`, and then the command takes its place. So even a parent
killed by -9 leaves nothing behind. Each child leads its own process group: a terminal's Ctrl-C reaches the parent only.

The kernel watches the *thread* that started the child: call `start` from a thread that lives as long as the parent.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, sig: signal.Signals) -> None:
    """Asks the kernel for `sig` when the parent dies; exits at once if it has died already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(sig), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit(1)


def start(
    command: Sequence[str],
    *,
    on_parent_death: signal.Signals = signal.SIGKILL,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    stdin: int | None = None,
) -> "subprocess.Popen[bytes]":
    """Starts `command` in a process group of its own; its output is appended to `log`, or thrown away."""
    wrapper = [sys.executable, "-m", "app.process", on_parent_death.name, str(os.getpid()), "--", *command]
    if log is None:
        return subprocess.Popen(
            wrapper,
            env=env,
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            wrapper, env=env, stdin=stdin or subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def stop(child: "subprocess.Popen[bytes]", *, grace_s: float) -> int:
    """Ends a child: SIGTERM, and after `grace_s` SIGKILL to its whole group. Returns its exit status."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    kill_group(child)
    return child.wait()


def kill_group(child: "subprocess.Popen[bytes]") -> None:
    """Kills what is left of a child's process group, the child included."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _main(arguments: Sequence[str]) -> None:
    sig, parent_pid, separator, *command = arguments
    assert separator == "--"
    die_with_parent(int(parent_pid), signal.Signals[sig])
    os.execvp(command[0], command)


if __name__ == "__main__":
    _main(sys.argv[1:])
