"""Make a conversation an exchange: one turn a speaker at a time, no empty turns, at least one reply."""

import polars as pl

from curation.operator import BLANK, PROPOSALS, ConversationProposals, Dialogues, OperatorConfig, Resources, operator


class StructureDialogue(OperatorConfig):
    """Merges consecutive turns of one role, drops empty turns and conversations without a reply."""

    join: str = "\n"
    """What stands between merged turns."""
    require_reply: bool = True
    """Drop a conversation without a user turn followed by an assistant turn."""


@operator(
    kind="structure_dialogue",
    version=3,
    scope="conversation",
    config=StructureDialogue,
    codes={
        "merged": "a turn of the same role as the one before, whose text is appended to that one",
        "empty_turn": "a turn without anything visible",
        "no_reply": "a conversation without a user turn followed by an assistant turn",
        "partly_not_learned": "a merged reply of which a part is not to be learned",
    },
)
def structure_dialogue(dialogues: Dialogues, config: StructureDialogue, resources: Resources) -> ConversationProposals:
    """Proposes merges and drops; a merged text is appended to the first turn of its run.

    A merged reply of which a part is not to be learned is not learned.
    """
    empty = pl.col("text").str.contains(BLANK)
    spoken = dialogues.turns.filter(~empty).with_columns(
        new_run=(pl.col("role") != pl.col("role").shift(1)).fill_null(value=True).over("conversation")
    )
    spoken = spoken.with_columns(
        run=pl.col("new_run").cast(pl.UInt32).cum_sum().over("conversation"),
        first=pl.col("row")
        .first()
        .over("conversation", pl.col("new_run").cast(pl.UInt32).cum_sum().over("conversation")),
    )
    rest = spoken.filter(~pl.col("new_run"))
    unlearned = rest.filter(pl.col("role") == "assistant", pl.col("weight") == 0)["first"].implode()
    tainted = spoken.filter(pl.col("row").is_in(unlearned) & (pl.col("weight").fill_null(1) != 0))
    parts = [
        _verdicts(dialogues.turns.filter(empty), "drop_turn", "empty_turn"),
        _verdicts(rest, "merge", "merged"),
        _appended(spoken, rest, config.join),
        _verdicts(tainted, "no_learn", "partly_not_learned"),
    ]
    drops = {}
    if config.require_reply:
        asked = (pl.col("role") == "user").cum_sum().over("conversation") > 0
        answered = spoken.filter(asked & (pl.col("role") == "assistant"))["conversation"].unique()
        silent = ~pl.col("conversation").is_in(answered.implode())
        drops = dict.fromkeys(dialogues.conversations.filter(silent)["conversation"].to_list(), "no_reply")
    return ConversationProposals(turns=pl.concat(parts).sort("row", maintain_order=True), drops=drops)


def _verdicts(turns: pl.DataFrame, action: str, code: str) -> pl.DataFrame:
    columns = {"row": pl.col("row"), "action": pl.lit(action), "code": pl.lit(code)}
    return turns.select(columns.get(name, pl.lit(None)).cast(kind).alias(name) for name, kind in PROPOSALS.items())


def _appended(spoken: pl.DataFrame, rest: pl.DataFrame, join: str) -> pl.DataFrame:
    """One edit at the end of each run's first turn, holding the texts of the others."""
    texts = rest.group_by("first", maintain_order=True).agg(pl.col("text")).rename({"first": "row", "text": "texts"})
    first = spoken.select("row", "text").join(texts, on="row", maintain_order="left")
    end = pl.col("text").str.len_chars().cast(pl.Int64)
    return first.select(
        "row",
        pl.lit("edit").alias("action"),
        end.alias("start"),
        end.alias("end"),
        pl.concat_str(pl.lit(join), pl.col("texts").list.join(join)).alias("replacement"),
        pl.lit("merged").alias("code"),
        pl.lit(None, pl.Float64).alias("score"),
    )
