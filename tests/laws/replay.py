"""A trace, believed: what must come out when every row of it is applied to the original, and nothing else happens."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from curation.mixer import apply_edits
from curation.operator import EDITS

Turns = dict[int, dict[str, Any]]
"""Messages by their place in the original."""


def replay(messages: Sequence[Mapping[str, Any]], trace: Sequence[Mapping[str, Any]], unlearn: Iterable[str]) -> Turns:
    """The turns that stay, as the rows of the trace leave them, operator by operator; each operator occurs once.

    `unlearn` names the operators whose masks take a reply out of learning. Every slice that the trace quotes must be
    there, in the text that the operator received.
    """
    turns = {place: dict(message) for place, message in enumerate(messages)}
    for kind, group in groupby(trace, lambda row: row["operator"]):
        rows = list(group)
        for row in rows:
            if row["turn"] is not None and row["start"] is not None:
                received = turns[row["turn"]]["content"]
                assert 0 <= row["start"] <= row["end"] <= len(received)
                assert received[row["start"] : row["end"]] == row["before"]
        _apply(turns, rows, masks_unlearn=kind in unlearn)
    return turns


def _apply(turns: Turns, rows: Sequence[Mapping[str, Any]], *, masks_unlearn: bool) -> None:
    edits: dict[int, list[tuple[int, int, str]]] = {}
    for row in rows:
        if row["action"] in EDITS:
            edits.setdefault(row["turn"], []).append((row["start"], row["end"], row["after"]))
        hides = row["action"] == "no_learn" or (row["action"] == "mask" and masks_unlearn)
        if hides and turns[row["turn"]]["role"] == "assistant":
            turns[row["turn"]]["weight"] = 0
    for turn, made in edits.items():
        turns[turn]["content"] = apply_edits(turns[turn]["content"], made)
    for row in rows:
        if row["action"] in ("drop_turn", "merge"):
            del turns[row["turn"]]
