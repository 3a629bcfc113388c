"""Conversations on their way through a recipe: what is left of them, and all that happened to them so far.

A passage can be put down between two steps and taken up again, in another process or next month.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from curation.mixer import STEP_TRACE, TURN_COLUMNS, Step, run_step, with_context
from curation.operator import EDITS, Dialogues
from curation.recipe import Recipe
from curation.rows import curated_rows
from curation.segments import DROPPED_SCHEMA, TRACE_SCHEMA, USER_FIELDS

if TYPE_CHECKING:
    from trainer.dialogues import Window

FILES = ("conversations", "turns", "trace")
"""What a passage is put down as."""


@dataclass(frozen=True)
class Curated:
    """What curating conversations gave: frames of SEGMENT_SCHEMA, TRACE_SCHEMA and DROPPED_SCHEMA, and the counts."""

    rows: pl.DataFrame
    trace: pl.DataFrame
    dropped: pl.DataFrame
    counts: dict[str, Any]


@dataclass(frozen=True)
class Passage:
    """Conversations between two steps of a recipe."""

    loaded: pl.DataFrame
    """As they came in: conversation, id, line, user, meta, and how many turns each had."""
    dialogues: Dialogues
    """What is left of them."""
    trace: tuple[pl.DataFrame, ...] = ()
    """STEP_TRACE rows of the steps so far, by step, each by conversation and turn."""
    windows: Mapping[int, list[Window]] = field(default_factory=dict)
    """Of the last step."""

    @classmethod
    def begin(cls, raw: pl.DataFrame) -> Passage:
        """Before the first step; `raw` has rows of RAW_SCHEMA whose ids differ."""
        frame = raw.with_row_index("conversation")
        turns = (
            frame.select("conversation", pl.col("messages"))
            .explode("messages")
            .select(
                "conversation",
                pl.int_range(pl.len(), dtype=pl.Int64).over("conversation").alias("turn"),
                pl.col("messages").struct.field("role"),
                pl.col("messages").struct.field("content").alias("text"),
                pl.col("messages").struct.field("weight"),
            )
        )
        conversations = frame.select("conversation", "id", "line", "user", "meta")
        loaded = conversations.with_columns(num_turns=frame["messages"].list.len().cast(pl.Int64))
        return cls(loaded, Dialogues(conversations, with_context(turns)))

    def after(self, step: Step, decisions: pl.DataFrame | None = None) -> Passage:
        """The conversations after one more step; `decisions` as for `run_step`."""
        outcome = run_step(self.dialogues, step, decisions)
        ordered = outcome.trace.sort("conversation", "turn", "start", maintain_order=True)
        return Passage(self.loaded, outcome.dialogues, (*self.trace, ordered), outcome.windows)

    def frames(self) -> dict[str, pl.DataFrame]:
        """The passage as it is put down between two steps: frames by their names in FILES."""
        assert not self.windows, "windows are final"
        left = self.loaded["conversation"].is_in(self.dialogues.conversations["conversation"].implode())
        return {
            "conversations": self.loaded.with_columns(left=left),
            "turns": self.dialogues.turns.select(TURN_COLUMNS),
            "trace": self._steps(),
        }

    @classmethod
    def take_up(cls, files: Mapping[str, Path]) -> Passage:
        """The passage whose frames were written to files, by their names in FILES."""
        conversations, turns, trace = (pl.read_ipc(files[name]) for name in FILES)
        loaded = conversations.drop("left")
        dialogues = Dialogues(loaded.filter(conversations["left"]).drop("num_turns"), with_context(turns))
        return cls(loaded, dialogues, (trace,))

    def finished(self, recipe: Recipe, file: int) -> Curated:
        """What came out; `file` is the number of the conversations' file."""
        steps = self._steps()
        rows = curated_rows(self.dialogues, self.windows, _users(self.loaded, steps), file)
        names = self.loaded.select("conversation", "line", conversation_id="id")
        named = steps.sort("conversation", maintain_order=True).join(names, on="conversation", maintain_order="left")
        gone = named.filter(pl.col("action") == "drop_conversation")
        dropped = gone.with_columns(file=pl.lit(file, pl.Int64)).select(DROPPED_SCHEMA.names())
        trace = named.select(TRACE_SCHEMA.names())
        return Curated(rows, trace, dropped, self._counts(rows, trace, dropped, recipe))

    def _steps(self) -> pl.DataFrame:
        return pl.concat(self.trace) if self.trace else pl.DataFrame(schema=STEP_TRACE)

    def _counts(self, rows: pl.DataFrame, trace: pl.DataFrame, dropped: pl.DataFrame, recipe: Recipe) -> dict[str, Any]:
        edits = trace.filter(pl.col("action").is_in(EDITS))
        by_operator = {}
        for op, _, _ in recipe.steps:
            mine = trace.filter(pl.col("operator") == op.kind)
            changed = edits.filter(pl.col("operator") == op.kind)
            codes = mine.group_by("code").len().sort("code")
            by_operator[op.kind] = {
                "edited": changed.select("conversation_id", "turn").n_unique(),
                "dropped_turns": mine.filter(pl.col("action") == "drop_turn").height,
                "dropped_conversations": dropped.filter(pl.col("operator") == op.kind).height,
                "codes": dict(codes.iter_rows()),
            }
        return {
            "conversations_in": self.loaded.height,
            "conversations_kept": self.loaded.height - dropped.height,
            "conversations_dropped": dropped.height,
            "rows": rows.height,
            "turns_in": int(self.loaded["num_turns"].sum()),
            "turns_kept": int(rows["turns"].sum()),
            "turns_edited": edits.select("conversation_id", "turn").n_unique(),
            "by_operator": by_operator,
        }


def _users(conversations: pl.DataFrame, trace: pl.DataFrame) -> dict[int, dict[str, Any]]:
    """Each conversation's user, as tagged: the metadata's id, and the tags that the trace tells."""
    users: dict[int, dict[str, Any]] = {}
    for conversation, text in conversations.select("conversation", "user").drop_nulls().iter_rows():
        user_id = orjson.loads(text).get("id")
        if isinstance(user_id, str | int) and not isinstance(user_id, bool):
            users[conversation] = {"id": str(user_id)}
    tags = trace.filter(pl.col("action") == "tag").select("conversation", "after")
    for conversation, told in tags.iter_rows():
        tag, _, value = told.partition("=")
        user = users.setdefault(conversation, {})
        if tag == "crowd":
            user["crowd"] = sorted({*user.get("crowd", ()), value})
        elif tag in USER_FIELDS:
            user[tag] = int(value) if tag == "age" else value
    return users
