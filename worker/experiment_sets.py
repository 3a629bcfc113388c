"""The conversations that an experiment's runs are scored on: those that none has learned, in every set alike.

Which of their replies are generated follows from ids, what was said and the seed, as in a run's own evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from trainer.config import Data
from trainer.data.version import DatasetVersion, SegmentPart, open_version
from trainer.dialogues import Message, target_turns
from trainer.evaluation.held_out import Reply, choose_replies

COLUMNS = ["id", "conversation_id", "messages", "user", "cut_replies"]
TURN = pl.Struct({"role": pl.String, "content": pl.String, "weight": pl.Int64, "cut": pl.Boolean})
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "set": pl.String, "id": pl.String, "conversation_id": pl.String, "user": pl.String, "messages": pl.List(TURN),
    "generate": pl.List(pl.Int64),
}  # fmt: skip
"""A row of a set; `user` as JSON, `generate` the turns that every run generates."""


def hold_out_conversations(
    sets: Mapping[str, Path],
    candidates: Set[str],
    learned: Sequence[tuple[Path, Set[str]]],
    out: Path,
    *,
    replies: int,
    seed: int,
) -> dict[str, int]:
    """Writes the conversations of all sets that any run held out and none learned; returns how many of each set.

    Args:
        sets: manifests of versions, by the sets' names.
        candidates: ids of the conversations that a run held out.
        learned: of each run the manifest of what it learned, and what it held out of that.
        out: the file, with the columns of `SCHEMA`.
        replies: how many replies of each set are generated.
        seed: decides which.
    """
    chosen = set(candidates)
    for manifest, held_out in learned:
        names = {name for of_segment, _ in open_version(str(manifest)).names() for name in of_segment}
        chosen -= names - held_out
    frames = [_rows(name, open_version(str(manifest)), chosen, replies, seed) for name, manifest in sets.items()]
    # A conversation is compared where every recipe kept it.
    each = [set(frame["conversation_id"]) for frame in frames]
    kept = set.intersection(*each) or set.union(*each)  # nothing in common: sets of different data
    frame = pl.concat(frames).filter(pl.col("conversation_id").is_in(sorted(kept)))
    frame.write_parquet(out)
    return {name: frame.filter(pl.col("set") == name)["conversation_id"].n_unique() for name in sets}


def _rows(name: str, version: DatasetVersion, chosen: Set[str], replies: int, seed: int) -> pl.DataFrame:
    """A set's rows in which there is a reply."""
    rows = [row for part in version.parts() for row in _rows_of_part(part, chosen)]
    by_conversation = groupby(rows, key=lambda row: row["conversation_id"])
    names = [[(row["id"], conversation) for row in of_one] for conversation, of_one in by_conversation]
    generated = choose_replies(version, names, Data(version=""), count=replies, seed=seed) if replies else []
    of_conversation: dict[str, list[Reply]] = {}
    for reply in generated:
        of_conversation.setdefault(reply.conversation_id, []).append(reply)
    for row in rows:
        said = row["messages"]
        mine = of_conversation.get(row["conversation_id"], [])
        row["generate"] = sorted(one.turn for one in mine if [m["content"] for m in said[: one.turn + 1]] == _said(one))
    return pl.DataFrame([{"set": name, **row} for row in rows], pl.Schema(SCHEMA))


def _rows_of_part(part: SegmentPart, chosen: Set[str]) -> Iterator[dict[str, Any]]:
    table = pl.from_arrow(part.read(COLUMNS))
    assert isinstance(table, pl.DataFrame)
    for row in table.filter(pl.col("conversation_id").is_in(sorted(chosen))).iter_rows(named=True):
        cut = row["cut_replies"] or ()
        messages: list[Message] = [
            {"role": turn["role"], "content": turn["content"], "weight": turn["weight"], "cut": place in cut}
            for place, turn in enumerate(row["messages"])
        ]
        if target_turns(messages):
            names = {key: row[key] for key in ("id", "conversation_id")}
            yield {**names, "user": orjson.dumps(row["user"]).decode(), "messages": messages}


def _said(reply: Reply) -> list[str]:
    return [*(message["content"] for message in reply.history), reply.text]
