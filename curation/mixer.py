"""The mixer: the only place where conversations change.

It runs an operator, applies what it proposes and writes a trace row for each change. Dropping a user's turn drops its
reply; a dropped reply never leaves two user turns apart: they become one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curation.distinct import first_alike
from curation.operator import (
    BLANK,
    EDITS,
    PROPOSALS,
    ConversationProposals,
    Dialogues,
    Operator,
    OperatorConfig,
    Resources,
    Shard,
)
from curation.segments import TRACE_SCHEMA

if TYPE_CHECKING:
    from trainer.dialogues import Window

JOIN = "\n"
STEP_TRACE = pl.Schema(
    [("conversation", pl.UInt32), *((k, v) for k, v in TRACE_SCHEMA.items() if k != "conversation_id")]
)
TURN_COLUMNS = ("conversation", "turn", "role", "text", "weight")


@dataclass(frozen=True)
class Step:
    """One operator of a recipe with its config and what it needs beside."""

    operator: Operator
    config: OperatorConfig
    resources: Resources

    @property
    def scope(self) -> str:
        """Turn, conversation or dataset: what the operator is given."""
        return str(getattr(self.config, "scope", self.operator.scope))


@dataclass(frozen=True)
class Outcome:
    """What one step made of the conversations."""

    dialogues: Dialogues
    trace: pl.DataFrame
    """STEP_TRACE rows."""
    dropped: dict[int, str]
    """Conversations that left, with the code why."""
    tags: pl.DataFrame
    windows: dict[int, list[Window]]


def run_step(dialogues: Dialogues, step: Step, decisions: pl.DataFrame | None = None) -> Outcome:
    """Runs a step's operator and applies what it proposes.

    `decisions` are those of an operator of dataset scope on this segment; without them it decides on these
    conversations as if there were no others.
    """
    if step.scope == "turn":
        proposals = ConversationProposals(turns=_propose_on_distinct(dialogues.turns, step))
    elif step.operator.barrier is not None:
        decided = _decide_alone(dialogues, step) if decisions is None else decisions
        proposals = step.operator.function(dialogues, step.config, step.resources, decided)
    else:
        proposals = step.operator.function(dialogues, step.config, step.resources)
    return _apply(dialogues, proposals, step)


def _decide_alone(dialogues: Dialogues, step: Step) -> pl.DataFrame:
    barrier = step.operator.barrier
    assert barrier is not None
    shard = Shard(barrier.survey(dialogues, step.config, step.resources).lazy(), dialogues.turns.lazy)
    with tempfile.TemporaryDirectory() as folder:
        return barrier.decide([shard], step.config, Path(folder))[0]


def with_context(turns: pl.DataFrame) -> pl.DataFrame:
    """Renews the columns that follow from others, `row` and `previous_text`; turns stand in order."""
    follows = pl.col("conversation") == pl.col("conversation").shift(1)
    previous = pl.when(follows).then(pl.col("text").shift(1)).alias("previous_text")
    return turns.select(TURN_COLUMNS).with_columns(previous).with_row_index("row")


def _propose_on_distinct(turns: pl.DataFrame, step: Step) -> pl.DataFrame:
    """Calls a turn operator once per distinct content of the columns it reads; agents repeat themselves."""
    reads = list(step.operator.reads)
    first = first_alike(turns.select(reads))
    distinct = turns.select("row", *reads).filter(first == turns["row"])
    proposed: pl.DataFrame = step.operator.function(distinct, step.config, step.resources)
    if proposed.is_empty():
        return pl.DataFrame(schema=PROPOSALS)
    proposed = proposed.rename({"row": "first"})
    rows = turns.select("row", first=first).join(proposed.select("first"), on="first", how="semi")
    joined = proposed.join(rows, on="first", maintain_order="left").select(PROPOSALS.names())
    joined = joined.sort("row", "start", maintain_order=True)
    settle = step.operator.settle
    return joined if settle is None else settle(joined, turns, step.config)


def _apply(dialogues: Dialogues, proposals: ConversationProposals, step: Step) -> Outcome:
    kind = step.operator.kind
    proposed = proposals.turns.join(dialogues.turns.drop("previous_text"), on="row", maintain_order="left")
    traces = [
        _trace_of(proposed, kind),
        _trace_of_tags(proposals.tags, kind),
        _trace_of_windows(dialogues, proposals, kind),
    ]
    turns = _edit(dialogues.turns, proposed, unlearn=not getattr(step.config, "learn_masked", True))
    gone = proposed.filter(pl.col("action").is_in(["drop_turn", "merge"]))
    dropped = dict(proposals.drops)
    verdicts = proposed.filter(pl.col("action") == "drop_conversation").unique("conversation", maintain_order=True)
    dropped.update(verdicts.select("conversation", "code").iter_rows())
    if not gone.is_empty():
        turns = turns.filter(~pl.col("row").is_in(gone["row"].implode()))
        removed = gone.filter(
            pl.col("action") == "drop_turn", pl.col("role") != "system", ~pl.col("text").str.contains(BLANK)
        )
        turns, mended, replyless = _mend(dialogues.turns, turns, removed, kind)
        traces.append(mended)
        dropped.update({conversation: "no_reply_left" for conversation in replyless if conversation not in dropped})
        emptied = gone.join(turns, on="conversation", how="anti")["conversation"].unique(maintain_order=True)
        dropped.update({conversation: "no_turn_left" for conversation in emptied if conversation not in dropped})
    traces.append(_trace_of_drops(dropped, verdicts, proposals.kept, kind))
    if dropped:
        keep = ~pl.col("conversation").is_in(pl.Series(list(dropped), dtype=pl.UInt32).implode())
        dialogues = replace(dialogues, conversations=dialogues.conversations.filter(keep))
        turns = turns.filter(keep)
    windows = {conversation: made for conversation, made in proposals.windows.items() if conversation not in dropped}
    trace = pl.concat([part for part in traces if not part.is_empty()] or [pl.DataFrame(schema=STEP_TRACE)])
    return Outcome(replace(dialogues, turns=with_context(turns)), trace, dropped, proposals.tags, windows)


def _edit(turns: pl.DataFrame, proposed: pl.DataFrame, *, unlearn: bool) -> pl.DataFrame:
    """Puts replacements into texts; masked or unlearned replies get the weight 0."""
    edits = proposed.filter(pl.col("action").is_in(EDITS)).sort("row", "start", "end", maintain_order=True)
    if not edits.is_empty():
        turns = turns.with_columns(text=_edited(turns["text"], edits))
    masked = (pl.col("action") == "mask") if unlearn else pl.lit(value=False)
    unlearned = proposed.filter((pl.col("action") == "no_learn") | masked)["row"].unique()
    if unlearned.is_empty():
        return turns
    hit = pl.col("row").is_in(unlearned.implode()) & (pl.col("role") == "assistant")
    return turns.with_columns(weight=pl.when(hit).then(0).otherwise("weight"))


def _edited(texts: pl.Series, edits: pl.DataFrame) -> pl.Series:
    """The texts with edits made; each row of `edits` has the index of its text as `row`, and they are in order."""
    begins = np.flatnonzero((edits["row"].diff() != 0).fill_null(value=True))
    places = list(edits.select("start", "end", "replacement").iter_rows())
    given = edits["text"].gather(begins).to_list()
    made = [
        apply_edits(text, places[begin:end])
        for text, (begin, end) in zip(given, pairwise([*begins.tolist(), edits.height]), strict=True)
    ]
    order = np.arange(len(texts))
    order[edits["row"].gather(begins)] = len(texts) + np.arange(len(made))
    return pl.concat([texts, pl.Series("text", made, dtype=pl.String)]).gather(order)


def apply_edits(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """Replaces slices of `text`, given as code-point offsets into it; they must not overlap.

    What is inserted at one place stays in the order given.
    """
    parts, position = [], 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        assert position <= start <= end <= len(text), "edits overlap or lie outside the text"
        parts += [text[position:start], replacement]
        position = end
    return "".join([*parts, text[position:]])


def _mend(
    before: pl.DataFrame, turns: pl.DataFrame, removed: pl.DataFrame, kind: str
) -> tuple[pl.DataFrame, pl.DataFrame, list[int]]:
    """Repairs conversations that lost turns: orphaned replies go, user turns that now meet become one.

    Returns the turns, the trace of the repairs and the conversations without a reply.
    """
    touched = removed["conversation"].unique()
    if touched.is_empty():
        return turns, pl.DataFrame(schema=STEP_TRACE), []
    removed_users = set(removed.filter(pl.col("role") == "user").select("conversation", "turn").iter_rows())
    mine = pl.col("conversation").is_in(touched.implode())
    mended: list[dict[str, Any]] = []
    trace: list[dict[str, Any]] = []
    replyless = []
    present = {(row["conversation"], row["turn"]): row for row in turns.filter(mine).iter_rows(named=True)}
    for (conversation,), group in before.filter(mine).group_by("conversation", maintain_order=True):
        kept = _mend_one(group.select("conversation", "turn", "role", "text"), present, removed_users, kind, trace)
        mended += kept
        roles = [row["role"] for row in kept]
        if "user" not in roles or "assistant" not in roles[roles.index("user") :]:
            replyless.append(conversation)
    columns = list(TURN_COLUMNS)
    rows = pl.DataFrame(mended, schema={name: turns.schema[name] for name in columns}, orient="row")
    rest = turns.filter(~mine).select(columns)
    joined = pl.concat([rest, rows]).sort("conversation", "turn")
    return with_context(joined), pl.DataFrame(trace, STEP_TRACE, orient="row"), replyless


def _mend_one(
    received: pl.DataFrame,
    present: dict[tuple[int, int], dict[str, Any]],
    removed_users: set[tuple[int, int]],
    kind: str,
    trace: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The turns that stay, `present` with their texts as edited; the trace speaks of the texts as `received`."""
    kept: list[dict[str, Any]] = []
    orphaned, last_end = False, 0
    for conversation, turn, role, text in received.iter_rows():
        row = present.get((conversation, turn))
        if role == "user":
            orphaned = (conversation, turn) in removed_users
        if row is None:
            continue
        row = {name: row[name] for name in TURN_COLUMNS}
        if role == "assistant" and orphaned:
            trace.append(_trace_row(row, kind, "reply_of_dropped", "drop_turn", text, "", 0, len(text)))
        elif role == "user" and kept and kept[-1]["role"] == "user":
            last = kept[-1]
            appended = JOIN + row["text"] if last["text"] and row["text"] else row["text"]
            if appended:
                trace.append(_trace_row(last, kind, "merged", "edit", "", appended, last_end, last_end))
            trace.append(_trace_row(row, kind, "merged", "merge", text, "", 0, len(text)))
            last["text"] += appended
        else:
            kept.append(row)
            last_end = len(text)
    return kept


def _trace_row(
    row: dict[str, Any], kind: str, code: str, action: str, before: str, after: str, start: int, end: int
) -> dict[str, Any]:
    return {
        "conversation": row["conversation"],
        "turn": row["turn"],
        "operator": kind,
        "code": code,
        "action": action,
        "before": before,
        "after": after,
        "start": start,
        "end": end,
        "score": None,
    }


def _trace_of(proposed: pl.DataFrame, kind: str) -> pl.DataFrame:
    """A trace row per proposal; a whole turn's verdict spans its text."""
    whole = pl.col("start").is_null()
    start = pl.coalesce("start", pl.lit(0, pl.Int64))
    end = pl.coalesce("end", pl.col("text").str.len_chars().cast(pl.Int64))
    gone = pl.col("action").is_in(["drop_turn", "merge"])
    after = pl.when(gone).then(pl.lit("")).when(whole).then("text").otherwise("replacement")
    verdict = pl.col("action") == "drop_conversation"
    return proposed.filter(~verdict).select(
        "conversation",
        "turn",
        pl.lit(kind).alias("operator"),
        "code",
        "action",
        pl.col("text").str.slice(start, end - start).alias("before"),
        after.alias("after"),
        start.alias("start"),
        end.alias("end"),
        pl.col("score").round(4),
    )


def _trace_of_tags(tags: pl.DataFrame, kind: str) -> pl.DataFrame:
    return tags.select(
        "conversation",
        "turn",
        pl.lit(kind).alias("operator"),
        "code",
        # what could not be read is told, but it is no tag
        pl.when(pl.col("value") == "").then(pl.lit("flag")).otherwise(pl.lit("tag")).alias("action"),
        "before",
        pl.concat_str("field", "value", separator="=").alias("after"),
        "start",
        "end",
        pl.lit(None, pl.Float64).alias("score"),
    )


def _trace_of_windows(dialogues: Dialogues, proposals: ConversationProposals, kind: str) -> pl.DataFrame:
    """What windows leave out of a conversation: turns that are in none of them, and cut ends."""
    if not proposals.windows:
        return pl.DataFrame(schema=STEP_TRACE)
    mine = pl.col("conversation").is_in(pl.Series(list(proposals.windows), dtype=pl.UInt32).implode())
    rows: list[dict[str, Any]] = []
    for (conversation,), group in dialogues.turns.filter(mine).group_by("conversation", maintain_order=True):
        windows = proposals.windows[conversation]
        turns = group.to_dicts()
        present = {index for window in windows for index in window.turns}
        for index, row in enumerate(turns):
            if index not in present:
                text = row["text"]
                rows.append(_trace_row(row, kind, "not_needed", "drop_turn", text, "", 0, len(text)))
        for cut in sorted({(cut.turn, cut.start, cut.end) for window in windows for cut in window.cuts}):
            row, start, end = turns[cut[0]], cut[1], cut[2]
            rows.append(_trace_row(row, kind, "cut", "cut", row["text"][start:end], "", start, end))
        whole = {"conversation": conversation, "turn": None}
        rows.append(
            {**_trace_row(whole, kind, "windows", "split", "", str(len(windows)), 0, 0), "start": None, "end": None}
        )
    return pl.DataFrame(rows, STEP_TRACE, orient="row")


def _trace_of_drops(
    dropped: dict[int, str], verdicts: pl.DataFrame, kept: Mapping[int, tuple[str, float]], kind: str
) -> pl.DataFrame:
    """A row per dropped conversation: the words that decided it where a turn's verdict did, or who stands for it."""
    evidence = {row["conversation"]: row for row in verdicts.iter_rows(named=True)}
    rows = []
    for conversation, code in dropped.items():
        found = evidence.get(conversation)
        score = None if found is None or found["score"] is None else round(found["score"], 4)
        if found is None or found["start"] is None:
            row = {"conversation": conversation, "turn": None if found is None else found["turn"]}
            made = _trace_row(row, kind, code, "drop_conversation", "", "", 0, 0)
            made |= {"start": None, "end": None}
            if conversation in kept:
                made["after"], score = kept[conversation][0], round(kept[conversation][1], 4)
        else:
            before = found["text"][found["start"] : found["end"]]
            made = _trace_row(found, kind, code, "drop_conversation", before, before, found["start"], found["end"])
        rows.append({**made, "score": score})
    return pl.DataFrame(rows, STEP_TRACE, orient="row")
