"""A conversation with every change at its place: what went, what came, by which operator and why.

The trace is applied to the original character by character, so a mark never guesses: it says what the trace says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

EDITS = ("edit", "mask")
GONE = ("drop_turn", "merge")


@dataclass(frozen=True)
class Span:
    """A run of characters; `reason` is the trace row that took it out or put it in, None for what stayed."""

    text: str
    reason: Mapping[str, Any] | None


@dataclass
class MarkedTurn:
    """A turn of the original, and what became of it."""

    place: int
    role: str
    before: list[Span]
    after: list[Span]
    gone: Mapping[str, Any] | None = None
    """The row that dropped the turn or merged it into another."""
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def is_changed(self) -> bool:
        """Whether the turn is not as it came."""
        return bool(self.rows)


@dataclass
class _Text:
    """A text under way: each character with its place in the original, or the row that put it in."""

    original: str
    characters: list[tuple[str, int | None, Mapping[str, Any] | None]]
    taken_by: dict[int, Mapping[str, Any]]

    @classmethod
    def of(cls, text: str) -> "_Text":
        return cls(text, [(character, place, None) for place, character in enumerate(text)], {})

    def replace(self, row: Mapping[str, Any]) -> None:
        taken = self.characters[row["start"] : row["end"]]
        self.taken_by |= {place: row for _, place, _ in taken if place is not None}
        self.characters[row["start"] : row["end"]] = [(character, None, row) for character in row["after"] or ""]

    def before(self) -> list[Span]:
        return _spans([(character, self.taken_by.get(place)) for place, character in enumerate(self.original)])

    def after(self) -> list[Span]:
        return _spans([(character, row) for character, _, row in self.characters])


def mark(messages: Sequence[Mapping[str, Any]], trace: Sequence[Mapping[str, Any]]) -> list[MarkedTurn]:
    """The turns of an original, in order, as the rows of its trace leave them."""
    texts = [_Text.of(message["content"]) for message in messages]
    rows: list[list[Mapping[str, Any]]] = [[] for _ in messages]
    gone: dict[int, Mapping[str, Any]] = {}
    for _, group in groupby(trace, lambda row: row["operator"]):
        edits = []
        for row in group:
            if (turn := row["turn"]) is None or turn >= len(texts):
                continue
            if row["action"] != "tag":
                rows[turn].append(row)
            if row["action"] in EDITS and row["start"] is not None:
                edits.append(row)
            elif row["action"] in GONE:
                gone[turn] = row
        for row in sorted(edits, key=lambda row: (row["start"], row["end"]), reverse=True):
            texts[row["turn"]].replace(row)  # from the right: offsets are into what the operator received
    return [
        MarkedTurn(place, message["role"], text.before(), text.after(), gone.get(place), rows[place])
        for place, (message, text) in enumerate(zip(messages, texts, strict=True))
    ]


def _spans(characters: Sequence[tuple[str, Mapping[str, Any] | None]]) -> list[Span]:
    runs = (list(run) for _, run in groupby(characters, lambda pair: id(pair[1])))
    return [Span("".join(character for character, _ in run), run[0][1]) for run in runs]
