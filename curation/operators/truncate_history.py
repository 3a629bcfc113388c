"""Left truncation: keep the newest history that fits. The windows themselves are made by `trainer.dialogues`."""

from typing import Literal

import polars as pl
from pydantic import Field, field_validator

from curation.operator import ConversationProposals, Dialogues, OperatorConfig, Resources, operator
from trainer.dialogues import (
    PACKAGED,
    DialogueError,
    Lengths,
    Message,
    NoRoomError,
    load_chat_tokenizer,
    make_windows,
)

TEMPLATE_TOKENS = 16
"""More than the packaged template puts around a turn: what fits by this needs no tokenizer, which is slow to open."""


class TruncateHistory(OperatorConfig):
    """Keeps the newest whole turns that fit a reply's budget; no reply is lost in mode windows."""

    mode: Literal["windows", "newest"] = "windows"
    """windows: a long conversation becomes rows id/1, id/2…, every reply learned in exactly one of them.
    newest: one row with what the last reply needs."""
    max_source_length: int = Field(default=4096, ge=16, le=1_048_576)
    """Tokens before a reply, template included."""
    max_target_length: int = Field(default=2048, ge=1, le=1_048_576)
    """Tokens of a reply; a longer one is cut on its right."""
    min_history_ratio: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the budget that a reply's history reaches in every window."""
    tokenizer: str = PACKAGED
    """The packaged tokenizer's name."""

    @field_validator("tokenizer")
    @classmethod
    def _known(cls, name: str) -> str:
        if name != PACKAGED:
            raise ValueError(f"the tokenizer of a recipe is {PACKAGED!r}")
        return name


@operator(
    kind="truncate_history",
    version=4,
    scope="conversation",
    config=TruncateHistory,
    codes={
        "windows": "a conversation that becomes several rows, `after` says how many",
        "not_needed": "a turn that no kept reply has in its history",
        "cut": "a turn that alone exceeds the budget: its beginning, or the end of a reply, goes",
        "unsupported_roles": "a conversation with roles that the chat template cannot tell",
        "no_room": "a conversation before whose reply the template's own text alone exceeds the budget",
    },
)
def truncate_history(dialogues: Dialogues, config: TruncateHistory, resources: Resources) -> ConversationProposals:
    """Proposes windows for conversations that may not fit; by their bytes alone, most of them do."""
    lengths = Lengths(config.max_source_length, config.max_target_length, config.min_history_ratio)
    long = dialogues.turns.join(
        _maybe_too_long(dialogues.turns, TEMPLATE_TOKENS, lengths), on="conversation", how="semi"
    )
    if long.is_empty():
        return ConversationProposals()
    chat = load_chat_tokenizer(config.tokenizer)
    around = max(map(chat.most_tokens, chat.layout(("system", "user", "assistant", "user")).pieces))
    assert chat.one_token_a_byte_at_most
    assert around <= TEMPLATE_TOKENS
    long = long.join(_maybe_too_long(long, around, lengths), on="conversation", how="semi")
    windows, drops = {}, {}
    grouped = long.group_by("conversation", maintain_order=True).agg("role", "text", "weight")
    for conversation, roles, texts, weights in grouped.iter_rows():
        messages: list[Message] = [
            {"role": role, "content": text, "weight": weight}
            for role, text, weight in zip(roles, texts, weights, strict=True)
        ]
        try:
            made = make_windows(chat, messages, lengths, mode=config.mode)
        except DialogueError as error:
            drops[conversation] = "no_room" if isinstance(error, NoRoomError) else "unsupported_roles"
            continue
        if len(made) > 1 or made[0].cuts or len(made[0].turns) < len(messages):
            windows[conversation] = made
    return ConversationProposals(windows=windows, drops=drops)


def _maybe_too_long(turns: pl.DataFrame, around: int, lengths: Lengths) -> pl.DataFrame:
    """Conversations that could exceed the budget: a token has a byte at least, a turn `around` of them beside its text."""
    size = pl.col("text").str.len_bytes()
    longest_reply = pl.col("size").filter(pl.col("role") == "assistant").max().fill_null(0)
    sums = (
        turns.select("conversation", "role", size=size)
        .group_by("conversation")
        .agg(total=pl.col("size").sum() + around * (pl.len() + 1), longest_reply=longest_reply)
    )
    over = (pl.col("total") > lengths.max_source_length) | (pl.col("longest_reply") >= lengths.max_target_length)
    return sums.filter(over).select("conversation")
