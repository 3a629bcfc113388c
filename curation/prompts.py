"""Prompts drawn from conversations: which ones, in which order, and what was really said in reply.

Everything follows from the seed and the conversations' ids, so that the same draw on another machine, or from the same
conversations cut into other segments, is the same.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl


@dataclass(frozen=True)
class Prompt:
    """A conversation up to what its user said last."""

    conversation_id: str
    messages: tuple[dict[str, str], ...]
    """role and content; the last one is the user's."""
    reference: str | None
    """What was said in reply, if anything was."""


def draw_prompts(segments: Sequence[Path], count: int, seed: int) -> list[Prompt]:
    """Draws prompts, each once, from raw or curated segments; fewer where there are no more.

    A conversation that was cut into windows counts once, by its last one. One without a user's turn gives none.
    """
    drawn: list[Prompt] = []
    seen = set()
    for prompt in _in_order(segments, count, seed):
        content = orjson.dumps(prompt.messages)
        if content not in seen:
            seen.add(content)
            drawn.append(prompt)
        if len(drawn) == count:
            break
    return drawn


def rank(seed: int, what: str, name: str) -> bytes:
    """A place in the order that a seed gives to names; `what` keeps orders of one seed apart."""
    return hashlib.sha256(f"{seed}\n{what}\n{name}".encode()).digest()


def _in_order(segments: Sequence[Path], count: int, seed: int) -> Iterator[Prompt]:
    """All prompts in the order of the draw; conversations are read as many at a time as are wanted."""
    places: dict[str, tuple[int, int]] = {}
    for index, path in enumerate(segments):
        for row, name in enumerate(pl.read_parquet(path, columns=[_key(path)]).to_series()):
            places[name] = (index, row)  # the last window's
    order = sorted(places, key=lambda name: rank(seed, "draw", name))
    for start in range(0, len(order), max(count, 1)):
        names = order[start : start + max(count, 1)]
        found: dict[str, Prompt] = {}
        for index in sorted({places[name][0] for name in names}):
            rows = {places[name][1]: name for name in names if places[name][0] == index}
            read = pl.scan_parquet(segments[index]).select("messages").with_row_index("row")
            for row, messages in read.filter(pl.col("row").is_in(sorted(rows))).collect().iter_rows():
                if (prompt := _prompt(rows[row], messages)) is not None:
                    found[rows[row]] = prompt
        yield from (found[name] for name in names if name in found)


def _key(path: Path) -> str:
    """The column that names conversations: curated segments have ids of windows too."""
    return "conversation_id" if "conversation_id" in pl.read_parquet_schema(path) else "id"


def _prompt(name: str, messages: Sequence[dict[str, Any]]) -> Prompt | None:
    asked = max((place for place, one in enumerate(messages) if one["role"] == "user"), default=None)
    if asked is None:
        return None
    reply = next((one["content"] for one in messages[asked + 1 :] if one["role"] == "assistant"), None)
    said = tuple({"role": one["role"], "content": one["content"]} for one in messages[: asked + 1])
    return Prompt(name, said, reply)
