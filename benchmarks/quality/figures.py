"""A figure with its bar, and the real data that figures are measured on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT.parent / "shared" / "data"
"""Real data beside the project."""
CLEAN = ("dialog.crosswoz.val", "dialog.kdconv.dev", "dialog.taskmaster4_data07")
"""Dialogues in which nearly nothing is to be mended."""


@dataclass(frozen=True)
class Figure:
    """A measured value and the bar it has to reach; `at_most` bars are upper limits."""

    name: str
    value: float
    bar: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def records(name: str) -> Iterator[dict[str, object]]:
    """The records of a file of real data."""
    with (DATA / f"{name}.jsonl").open("rb") as file:
        yield from map(orjson.loads, file)


def turns(name: str) -> Iterator[str]:
    """What is said in the dialogues of a file."""
    for record in records(name):
        yield from (message["content"] for message in record["messages"])  # type: ignore[attr-defined]
