"""Several machines in one run: who this one is, and how the others learn of each attempt and of its end.

They share the run directory. The first machine prepares the run, decides after a fault and writes `ranks/attempt.json`
before each start; the others start when they see a new one, and leave what their processes ended with beside it.
"""

import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainer.config import ConfigError, TrainConfig
from trainer.records import write_json
from trainer.recovery.beacon import FOLDER

RENDEZVOUS, NODE_RANK = "TALKMILL_RENDEZVOUS", "TALKMILL_NODE_RANK"
POLL_S = 0.5


@dataclass(frozen=True)
class Node:
    """This machine among those of a run."""

    rank: int = 0
    count: int = 1
    endpoint: str = ""
    """host:port at which the machines meet, on the first one; empty where there is one machine."""

    def ranks(self, nproc: int) -> range:
        """The processes that run here."""
        return range(self.rank * nproc, (self.rank + 1) * nproc)


def this_node(config: TrainConfig) -> Node:
    """Reads which machine this is from the environment.

    Raises:
        ConfigError: a run of several machines without TALKMILL_RENDEZVOUS and TALKMILL_NODE_RANK, or with wrong ones.
    """
    count = config.run.nnodes
    if count == 1:
        return Node()
    endpoint, rank = os.environ.get(RENDEZVOUS, ""), os.environ.get(NODE_RANK, "")
    host, _, port = endpoint.rpartition(":")
    if not (host and port.isdigit()):
        raise ConfigError(f"run.nnodes is {count}: set {RENDEZVOUS} to host:port of the first machine")
    if not (rank.isdigit() and int(rank) < count):
        raise ConfigError(f"run.nnodes is {count}: set {NODE_RANK} to this machine's number, 0 to {count - 1}")
    return Node(int(rank), count, endpoint)


def announce(run_dir: Path) -> None:
    """On the first machine: a new attempt begins."""
    for path in (run_dir / FOLDER).glob("*.ended.json"):
        path.unlink()
    write_json(run_dir / FOLDER / "attempt.json", {"attempt": secrets.token_hex(8)})


def await_attempt(run_dir: Path, last: str | None) -> str | None:
    """On another machine: the next attempt's name; None once the run is over."""
    while True:
        with suppress(OSError, ValueError, KeyError):
            name = str(json.loads((run_dir / FOLDER / "attempt.json").read_text("utf-8"))["attempt"])
            if name != last and (run_dir / "config.json").exists():
                return name
        if last is not None and (run_dir / "result.json").exists():
            return None
        time.sleep(POLL_S)


def tell_end(run_dir: Path, node: Node, exit_codes: Mapping[int, int]) -> None:
    """Leaves what this machine's processes ended with, by rank."""
    write_json(run_dir / FOLDER / f"{node.rank}.ended.json", {str(rank): code for rank, code in exit_codes.items()})


def ends_elsewhere(run_dir: Path, node: Node) -> dict[int, int]:
    """What processes of the other machines ended with."""
    codes: dict[int, int] = {}
    for path in (run_dir / FOLDER).glob("*.ended.json"):
        if path.name != f"{node.rank}.ended.json":
            with suppress(OSError, ValueError):
                codes |= {int(rank): code for rank, code in json.loads(path.read_text("utf-8")).items()}
    return codes
