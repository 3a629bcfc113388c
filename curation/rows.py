"""Curated conversations as rows of a segment: one each, or one a window, with the hash of each row's canonical JSON.

The JSON that is hashed (sorted keys, no white space, no key without a value) is put together by machine code, since a
serialiser called row by row would take longer than all operators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import polars as pl

from curation.arrays import Texts, laid_out, listed
from curation.compiled import pays
from curation.operator import Dialogues
from curation.segments import SEGMENT_SCHEMA, USER, Columns, canonical_message, canonical_user

if TYPE_CHECKING:
    from trainer.dialogues import Window

MESSAGE_COLUMNS = {
    "conversation": pl.UInt32,
    "window": pl.Int64,
    "role": pl.String,
    "content": pl.String,
    "weight": pl.Int64,
}


def curated_rows(
    dialogues: Dialogues, windows: Mapping[int, list[Window]], users: Mapping[int, dict[str, Any]], file: int
) -> pl.DataFrame:
    """Rows of SEGMENT_SCHEMA. `windows` holds the conversations that become several rows, `users` their users' tags."""
    numbers = dialogues.conversations["conversation"]
    tagged = [canonical_user(users.get(number)) for number in numbers]
    conversations = dialogues.conversations.select("conversation", "line", "meta", conversation_id="id").with_columns(
        user=pl.Series(tagged, dtype=USER),
        user_json=pl.Series(
            [orjson.dumps(user, option=orjson.OPT_SORT_KEYS).decode() for user in tagged], dtype=pl.String
        ),
    )
    messages = _messages(dialogues, windows)
    rows = conversations.join(_grouped(messages), on="conversation", maintain_order="left_right")
    for more in (_sizes(dialogues, windows), _cut_replies(windows)):
        rows = rows.join(more, on=["conversation", "window"], how="left", maintain_order="left")
    suffix = pl.when(pl.col("window") > 0).then(pl.concat_str(pl.lit("/"), pl.col("window"))).otherwise(pl.lit(""))
    rows = rows.with_columns(
        id=pl.concat_str("conversation_id", suffix),
        file=pl.lit(file, pl.Int64),
        turns=pl.col("turns").fill_null(0),
        characters=pl.col("characters").fill_null(0),
    )
    texts = (
        _canonical(rows, messages) if pays(int(messages["content"].str.len_bytes().sum())) else _canonical_of_few(rows)
    )
    return rows.with_columns(row_sha256=_hashes(texts)).select(SEGMENT_SCHEMA.names())


def _hashes(texts: Texts) -> pl.Series:
    """The SHA-256 of each text's UTF-8, read where it lies."""
    ends, held = texts[0].tolist(), texts[1].data
    return pl.Series([hashlib.sha256(held[begin:end]).digest() for begin, end in pairwise(ends)], dtype=pl.Binary)


def _messages(dialogues: Dialogues, windows: Mapping[int, list[Window]]) -> pl.DataFrame:
    """The messages of all rows: MESSAGE_COLUMNS, where `window` is 0 in conversations that stay whole."""
    whole = dialogues.turns.filter(~_is_cut(windows)).select(
        "conversation", pl.lit(0, pl.Int64).alias("window"), "role", pl.col("text").alias("content"), "weight"
    )
    cut = [
        (number, index if len(made) > 1 else 0, message["role"], message["content"], message.get("weight"))
        for number, made in windows.items()
        for index, window in enumerate(made, 1)
        for message in window.messages
    ]
    return pl.concat([whole, pl.DataFrame(cut, MESSAGE_COLUMNS, orient="row")]) if cut else whole


def _grouped(messages: pl.DataFrame) -> pl.DataFrame:
    """One row a conversation and window: its messages, and the `first` and `last` of them in the table, exclusive."""
    starts = messages.select(
        (pl.struct("conversation", "window").rle_id().diff() != 0).fill_null(value=True)
    ).to_series()
    firsts = starts.arg_true()
    ends = np.append(firsts.to_numpy(), messages.height).astype(np.int64)
    parts = {name: messages[name] for name in ("role", "content", "weight")}
    return (
        messages.select("conversation", "window")
        .gather(firsts)
        .with_columns(messages=listed(parts, ends), first=pl.Series(ends[:-1]), last=pl.Series(ends[1:]))
    )


def _sizes(dialogues: Dialogues, windows: Mapping[int, list[Window]]) -> pl.DataFrame:
    """Turns and characters that a conversation keeps, told with its first row."""
    turns = dialogues.turns.select("conversation", characters=pl.col("text").str.len_chars().cast(pl.Int64))
    if windows:
        place = pl.int_range(pl.len(), dtype=pl.Int64).over("conversation").alias("place")
        kept = sorted({(number, turn) for number, made in windows.items() for window in made for turn in window.turns})
        held = pl.DataFrame(kept, {"conversation": pl.UInt32, "place": pl.Int64}, orient="row")
        cut = turns.with_columns(place).filter(_is_cut(windows)).join(held, on=["conversation", "place"], how="semi")
        turns = pl.concat([turns.filter(~_is_cut(windows)), cut.drop("place")])
    several = pl.Series([number for number, made in windows.items() if len(made) > 1], dtype=pl.UInt32).implode()
    return (
        turns.group_by("conversation")
        .agg(turns=pl.len().cast(pl.Int64), characters=pl.col("characters").sum())
        .with_columns(window=pl.col("conversation").is_in(several).cast(pl.Int64))
    )


def _cut_replies(windows: Mapping[int, list[Window]]) -> pl.DataFrame:
    """Places of the messages whose end was cut, of the rows that have such: trained on, they teach no end of a turn."""
    cut = [
        (number, index if len(made) > 1 else 0, places)
        for number, made in windows.items()
        for index, window in enumerate(made, 1)
        if (places := [place for place, message in enumerate(window.messages) if message.get("cut")])
    ]
    schema: Columns = {"conversation": pl.UInt32, "window": pl.Int64, "cut_replies": pl.List(pl.Int64)}
    return pl.DataFrame(cut, schema, orient="row")


def _is_cut(windows: Mapping[int, list[Window]]) -> pl.Expr:
    return pl.col("conversation").is_in(pl.Series(list(windows), dtype=pl.UInt32).implode())


def _canonical(rows: pl.DataFrame, messages: pl.DataFrame) -> Texts:
    """Each row's canonical JSON: id, messages, user, meta; sorted keys, no white space, nothing that says nothing."""
    from curation.row_kernels import canonical_rows

    before = pl.concat_str(pl.lit('{"id":'), _json_text(rows["id"]), pl.lit(',"messages":['))
    meta = _json_text(rows["meta"]).fill_null("null")
    after = pl.concat_str(pl.lit('],"meta":'), meta, pl.lit(',"user":'), rows["user_json"], pl.lit("}"))
    roles = messages["role"].unique(maintain_order=True)
    return canonical_rows(
        rows["first"].to_numpy(),
        rows["last"].to_numpy(),
        laid_out(pl.select(before).to_series()),
        laid_out(pl.select(after).to_series()),
        laid_out(messages["content"]),
        laid_out(roles),
        messages["role"].cast(pl.Enum(roles)).to_physical().cast(pl.Int8).to_numpy(),
        messages["weight"].fill_null(-1).cast(pl.Int8).to_numpy(),
    )


def _canonical_of_few(rows: pl.DataFrame) -> Texts:
    """The same, row by row."""
    texts = []
    for row in rows.select("id", "messages", "user_json", "meta").iter_rows(named=True):
        said = [canonical_message(message) for message in row["messages"]]
        user = orjson.loads(row["user_json"])
        canonical = {"id": row["id"], "messages": said, "user": user, "meta": row["meta"]}
        texts.append(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS).decode())
    return laid_out(pl.Series(texts, dtype=pl.String))


def _json_text(texts: pl.Series) -> pl.Series:
    """Each text as a JSON string; null stays null."""
    return pl.Series([None if text is None else orjson.dumps(text).decode() for text in texts], dtype=pl.String)
