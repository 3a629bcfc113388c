"""Tag the customer of a conversation: age, gender, region, crowd; from metadata and plain statements, never from style.

Precision before recall: others' properties (我妈七十了), negations, hypotheses (如果我是学生), quotations and
destinations (我要去北京) give no tag. What may be said how lies in `curation.tagging`, a module a field.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, date, datetime
from typing import Any, Literal

import orjson
import polars as pl
from pydantic import field_validator

from curation.operator import TAGS, ConversationProposals, Dialogues, OperatorConfig, Resources, operator
from curation.tagging.choice import choose
from curation.tagging.claims import Tag
from curation.tagging.metadata import told_by_metadata, told_by_phone
from curation.tagging.statements import Said, stated_by, worth_reading

Field = Literal["age", "gender", "province", "city", "country", "crowd"]
FIELDS: tuple[Field, ...] = ("age", "gender", "province", "city", "country", "crowd")
MAX_WORDS = 1_000


class TagUsers(OperatorConfig):
    """Tags the customer by age, gender, region and crowd, from metadata and plain statements."""

    fields: tuple[Field, ...] = FIELDS
    """Which tags to set; age sets age_band too."""
    crowds: Mapping[str, tuple[str, ...]] = {}
    """Crowds of your own: a name, and phrases that a user of it says (`{"pet_owner": ["我养了猫", "我家狗"]}`)."""
    as_of: date | None = None
    """Date that ages are counted to; default: the conversation's time (`meta.time`), else the version's date."""

    @field_validator("crowds")
    @classmethod
    def _names_and_phrases(cls, crowds: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for name, phrases in crowds.items():
            if not 0 < len(name.strip()) == len(name) <= 100 or not phrases or len(phrases) > MAX_WORDS:
                raise ValueError(f"a crowd has a name and 1 to {MAX_WORDS} phrases")
            if any(not phrase.strip() or len(phrase) > 200 for phrase in phrases):
                raise ValueError(f"the phrases of {name} have 1 to 200 characters")
        return crowds


@operator(
    kind="tag_users",
    version=2,
    scope="conversation",
    config=TagUsers,
    codes={
        "metadata": "the conversation's user object says so",
        "statement": "the user says so of themselves",
        "form_of_address": "the agent addresses the user so, and the user lets it stand",
        "origin": "where the user says to come from, when no residence is told",
        "phone": "where the user's own phone number was issued, when nothing better is known",
        "derived": "follows from another tag: the band from the age, the province from the city",
        "unreadable": "a value of the user object that makes no sense: the tag stays unknown",
    },
)
def tag_users(dialogues: Dialogues, config: TagUsers, resources: Resources) -> ConversationProposals:
    """Proposes the tags of each conversation's user."""
    own = {name: [re.compile(re.escape(phrase), re.IGNORECASE) for phrase in sorted(phrases)]
           for name, phrases in sorted(config.crowds.items())}  # fmt: skip
    phrases = sorted({phrase for mine in config.crowds.values() for phrase in mine})
    turns: dict[int, list[Said]] = {}
    for conversation, *said in worth_reading(dialogues.turns, phrases).iter_rows():
        turns.setdefault(conversation, []).append(Said(*said))
    wanted = {*config.fields, *(["age_band"] if "age" in config.fields else [])}
    rows = []
    for conversation, user, meta in dialogues.conversations.select("conversation", "user", "meta").iter_rows():
        if user is not None or conversation in turns:
            as_of = config.as_of or _time_of(meta) or resources.as_of
            tags = tags_of(orjson.loads(user) if user else {}, turns.get(conversation, ()), as_of, own)
            rows += [(conversation, *astuple(tag)) for tag in tags if tag.field in wanted]
    return ConversationProposals(tags=pl.DataFrame(rows, TAGS, orient="row"))


def tags_of(
    user: Mapping[str, Any],
    turns: Sequence[Said],
    as_of: date,
    own: Mapping[str, Sequence[re.Pattern[str]]] | None = None,
) -> list[Tag]:
    """All tags of one user, from the user object that came with the conversation and what its turns state."""
    own = own or {}
    claims = [*told_by_phone(user), *stated_by(turns, as_of, own), *told_by_metadata(user, as_of, frozenset(own))]
    return list(choose(claims))


def _time_of(meta: str | None) -> date | None:
    """The date of a conversation, from `meta.time`: ISO 8601 or Unix seconds."""
    time = orjson.loads(meta).get("time") if meta else None
    try:
        if isinstance(time, str):
            return datetime.fromisoformat(time).date()
        if isinstance(time, int | float) and not isinstance(time, bool):
            return datetime.fromtimestamp(time, UTC).date()
    except (ValueError, OverflowError, OSError):
        return None
    return None
