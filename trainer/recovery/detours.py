"""What a run leaves out of its order of rows, and from where on: whole segments, rows, or samples of a row.

A detour holds from a row cursor on, so what was done before it is what it was, and the order is still a function of the
seed and the detours alone: the same on any number of ranks, and a run goes on exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.records import read_lines

RECOVERIES = "recovery.jsonl"
Samples = frozenset[int]
"""Places of samples in a packed row."""


@dataclass(frozen=True)
class Detour:
    """What is left out from a row of the run's order on."""

    from_row: int
    """Global row cursor: as many rows were taken before."""
    segments: frozenset[str] = frozenset()
    """Segments of which nothing is taken."""
    rows: Mapping[tuple[str, int], Samples | None] = field(default_factory=dict)
    """By segment and place: the samples that are taken out of a row; None for the whole row."""

    def as_json(self) -> dict[str, Any]:
        rows = [
            [segment, place, None if samples is None else sorted(samples)]
            for (segment, place), samples in sorted(self.rows.items(), key=lambda item: item[0])
        ]
        return {"from_row": self.from_row, "segments": sorted(self.segments), "rows": rows}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Detour":
        rows = {(s, p): None if samples is None else frozenset(samples) for s, p, samples in value["rows"]}
        return cls(value["from_row"], frozenset(value["segments"]), rows)


@dataclass(frozen=True)
class Detours:
    """All detours of a run."""

    all: tuple[Detour, ...] = ()

    def leaves_out(self, segment: str, place: int, cursor: int) -> bool:
        """Whether the row that would be the cursor's is passed over."""
        return any(
            segment in detour.segments or detour.rows.get((segment, place), frozenset()) is None
            for detour in self.all
            if detour.from_row <= cursor
        )

    def samples_out(self, segment: str, place: int, cursor: int) -> Samples:
        """Samples that are taken out of a row."""
        out: Samples = frozenset()
        for detour in self.all:
            if detour.from_row <= cursor:
                out |= detour.rows.get((segment, place)) or frozenset()
        return out

    def with_one_more(self, detour: Detour) -> "Detours":
        """These and another one. What held behind its beginning holds from there on: those rows are taken again."""
        before = (Detour(min(old.from_row, detour.from_row), old.segments, old.rows) for old in self.all)
        return Detours((*before, detour))


NO_DETOURS = Detours()


def read_detours(run_dir: Path) -> Detours:
    """A run's detours: what its restarts decided to leave out."""
    detours = NO_DETOURS
    for entry in read_lines(run_dir / RECOVERIES):
        if "detour" in entry:
            detours = detours.with_one_more(Detour.from_json(entry["detour"]))
    return detours
