"""What an operator is, and the registry of all of them.

An operator is one pure function from columns to proposals; it never changes a text itself. The mixer applies proposals
and writes the trace, so every change is explained by construction.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict

from curation.classifier import ClassifierRef
from curation.operators import KINDS
from curation.smoother import SmootherRef

if TYPE_CHECKING:
    from trainer.dialogues import Window

Scope = Literal["turn", "conversation", "dataset"]
PROPOSALS = pl.Schema(
    {
        "row": pl.UInt32,
        "action": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "replacement": pl.String,
        "code": pl.String,
        "score": pl.Float64,
    }
)
"""Row of the turn table; code-point offsets into its text; what stands there instead.

`action`: edit, mask (an edit that hides), merge (the turn goes, its text lives on in another), drop_turn,
drop_conversation, flag, no_learn.
"""
EDITS = ("edit", "mask")
MENDED = {
    "reply_of_dropped": "a reply whose question was dropped",
    "merged": "a user turn that would stand beside another after a drop: it is appended to that one",
    "no_reply_left": "a conversation that lost its last reply",
    "no_turn_left": "a conversation that lost all its turns",
}
"""Codes of what the mixer does after an operator dropped turns; the trace tells them under that operator."""
BLANK = r"^[\s\p{Z}\p{Cc}\p{Cf}]*$"
"""A text without anything visible: white space, control and zero-width characters."""
TAGS = pl.Schema(
    {
        "conversation": pl.UInt32,
        "field": pl.String,
        "value": pl.String,
        "code": pl.String,
        "turn": pl.Int64,
        "start": pl.Int64,
        "end": pl.Int64,
        "before": pl.String,
    }
)
"""A tag of a conversation's user: its source as `code`, its evidence as a slice of a turn or of the metadata."""


class OperatorConfig(BaseModel):
    """Base of operators' settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Lexicon:
    """A word list and the phrases in which its words are allowed."""

    words: tuple[str, ...]
    allow: tuple[str, ...] = ()
    category: str | None = None


class Scorer(Protocol):
    """A reward model. Whoever runs a recipe brings it, since scoring wants a machinery that has no place here."""

    @property
    def digest(self) -> str:
        """Identifies what was trained."""

    def scores(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float | None]:
        """Of each conversation, given by its messages; None where there is no reply to score."""


@dataclass(frozen=True)
class Resources:
    """What an operator needs beside its columns and its config."""

    as_of: date
    lexicons: tuple[Lexicon, ...] = ()
    classifier: ClassifierRef | None = None
    scorer: Scorer | None = None
    smoother: SmootherRef | None = None


@dataclass(frozen=True)
class Dialogues:
    """Conversations in columns.

    `conversations`: conversation (index), id, line, user (JSON), meta (JSON).
    `turns`: row (index), conversation, turn (index in the original), role, text, weight, previous_text.
    """

    conversations: pl.DataFrame
    turns: pl.DataFrame


@dataclass(frozen=True)
class ConversationProposals:
    """What an operator of conversation scope proposes."""

    turns: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROPOSALS))
    drops: Mapping[int, str] = field(default_factory=dict)
    """Conversations to drop, with the code why."""
    kept: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    """Of dropped conversations: the id of the one that is kept instead, and how alike they are, from 0 to 1."""
    tags: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TAGS))
    windows: "Mapping[int, list[Window]]" = field(default_factory=dict)
    """Conversations that become these windows instead of one row; turns are counted within the conversation."""


@dataclass(frozen=True)
class Shard:
    """A segment as an operator of dataset scope sees it once all of them are surveyed."""

    survey: pl.LazyFrame
    """What the operator's `survey` made of the segment."""
    turns: Callable[[], pl.LazyFrame]
    """The segment's turn table, fetched when it is asked for."""


@dataclass(frozen=True)
class Barrier:
    """What an operator that looks at the whole dataset does before it is called: all segments are surveyed, it decides.

    Its function then gets, as a fourth argument, the decisions on its segment.
    """

    survey: Callable[[Dialogues, Any, Resources], pl.DataFrame]
    """What the other segments need to know of one, from its conversations, the config and the resources."""
    decide: Callable[[Sequence[Shard], Any, Path], Sequence[pl.DataFrame]]
    """From all segments in order, the config and an empty folder to the decisions on each segment, in order."""


@dataclass(frozen=True)
class Operator:
    """A registered operator."""

    kind: str
    version: int
    """Raised with every change of what it does: it is part of a recipe's fingerprint."""
    scope: Scope
    """A config with a field `scope` of its own decides instead."""
    config: type[OperatorConfig]
    reads: tuple[str, ...]
    """Columns of the turn table that a turn operator sees; it is called on their distinct rows."""
    codes: Mapping[str, str]
    """What each code in its trace means, a line each; one in angle brackets stands for names that the user gives."""
    function: Callable[..., Any]
    description: str
    settle: Callable[..., pl.DataFrame] | None = None
    """Of a turn operator whose edits depend on the conversation too: from its proposals, spread over all rows of the
    turn table, the table and the config to the proposals that are applied."""
    barrier: Barrier | None = None
    """Of an operator of dataset scope, and of one that acts on single conversations but compares all of them."""


class Registry(Mapping[str, Operator]):
    """All operators by kind. The file of one is loaded when it is first asked for: a run needs few of them."""

    def __init__(self) -> None:
        self._loaded: dict[str, Operator] = {}

    def __setitem__(self, kind: str, item: Operator) -> None:
        assert kind not in self._loaded
        self._loaded[kind] = item

    def __getitem__(self, kind: str) -> Operator:
        if kind not in self._loaded and kind in KINDS:
            import_module(f"curation.operators.{kind}")
        return self._loaded[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(KINDS)

    def __len__(self) -> int:
        return len(KINDS)


REGISTRY = Registry()
F = TypeVar("F", bound=Callable[..., Any])


def operator(
    *,
    kind: str,
    version: int,
    scope: Scope,
    config: type[OperatorConfig],
    codes: Mapping[str, str],
    reads: tuple[str, ...] = (),
    settle: Callable[..., pl.DataFrame] | None = None,
    barrier: Barrier | None = None,
) -> Callable[[F], F]:
    """Registers a function as the operator `kind`."""

    def register(function: F) -> F:
        assert scope != "dataset" or barrier is not None
        description = (config.__doc__ or "").strip()
        REGISTRY[kind] = Operator(kind, version, scope, config, reads, codes, function, description, settle, barrier)
        return function

    return register


def describe_operators() -> list[dict[str, Any]]:
    """Every operator as `GET /v1/operators` lists it."""
    return [
        {
            "kind": item.kind,
            "version": item.version,
            "scope": item.scope,
            "description": item.description,
            "config_schema": item.config.model_json_schema(),
            "codes": list(item.codes),
            "code_meanings": dict(item.codes),
        }
        for item in REGISTRY.values()
    ]
