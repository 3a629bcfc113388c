"""What the turns of a conversation state of its user, and the native signs that find the turns worth reading."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import polars as pl

from curation.tagging import ages, crowds, genders, places
from curation.tagging.claims import Rule, Tag
from curation.tagging.frame import CLAUSE, NO, OTHER, Turn, confirmed, speaks_for_another

FOR_ANOTHER = r"(?i)[给帮替为陪带我俺咱](?:我|咱|们|家|的|个|一|老|亲|女|男|儿|闺|朋){0,4}[爸妈爹娘爷奶婆公友哥姐弟妹儿女孩宝娃孙人父母同媳]|my "
CASELESS = "(?i)"
FIELDS = ("age", "gender", "place", "crowd")


@dataclass(frozen=True, slots=True)
class Said:
    """A turn that may tell something, and the one before it."""

    turn: int
    role: str
    text: str
    previous: str
    """What the agent said right before; empty where there is nothing."""
    age: bool = True
    gender: bool = True
    place: bool = True
    crowd: bool = True
    """Whether the text has a sign of the field."""
    asked: bool = True
    """Whether the agent asked for something that an answer alone tells."""
    yes: bool = True
    """Whether the text may be a yes."""
    other: bool = True
    """Whether the text may speak of somebody else."""


EVERYTHING = Said(0, "user", "", "")
"""A turn of whose signs nothing is known: every rule is tried."""


@lru_cache(maxsize=1)
def signs() -> dict[str, str]:
    """By field an expression of Rust's engine that matches every text in which its rules find something."""
    return {"age": ages.SIGN, "gender": genders.SIGN, "place": places.sign_of_places(), "crowd": crowds.SIGN}


@lru_cache(maxsize=1)
def sign_of_question() -> str:
    """Matches every turn of an agent that asks for something of the user that an answer alone tells."""
    return CASELESS + "|".join((ages.ASKS, genders.ASKS, genders.ASKS_RELATION, places.ASKS, crowds.ASKS))


def worth_reading(turns: pl.DataFrame, phrases: Sequence[str] = ()) -> pl.DataFrame:
    """The rows of a turn table that may tell something of the user, with what of: a column a field of FIELDS.

    `phrases` are a recipe's own. Signs are tried on distinct texts of users, or of the agents before them.
    """
    asked = pl.col("previous_text").fill_null("")
    text = pl.col("text")
    yes = text.str.contains(
        r"(?i)^\s*(?:嗯|哦|啊|是|对|没错|有|满|yes|yeah|yep|correct|right|sure)"
    ) & asked.str.contains("[您你]")
    refuses = asked.str.contains(genders.MAY_ADDRESS) & text.str.contains(genders.REFUSES)
    found = {name: text.str.contains(sign).alias(name) for name, sign in signs().items()}
    found["own"] = (
        text.str.contains_any(list(phrases), ascii_case_insensitive=True) if phrases else pl.lit(value=False)
    ).alias("own")
    found |= {
        "asked": asked.str.contains(sign_of_question()).alias("asked"),
        "yes": yes.alias("yes"),
    }
    found |= {"other": text.str.contains(FOR_ANOTHER).alias("other"), "refuses": refuses.alias("refuses")}
    users = turns.lazy().filter(pl.col("role") == "user").with_columns(*found.values())
    users = users.filter(pl.any_horizontal(*found))
    agents = turns.lazy().filter((pl.col("role") == "assistant") & text.str.contains(genders.MAY_ADDRESS))
    agents = agents.with_columns(pl.lit(value=False).alias(name) for name in found)
    columns = ["conversation", "turn", "role", "text", asked.alias("previous"), *FIELDS, "asked", "yes", "other"]
    both = pl.concat([users, agents]).sort("conversation", "turn").select(columns)
    return both.collect()


def stated_by(turns: Sequence[Said], as_of: date, own: Mapping[str, Sequence[re.Pattern[str]]]) -> Iterator[Tag]:
    """What the turns state, in their order; a form of address counts only if the user lets it stand."""
    others = False
    addressed: list[Tag] = []
    for said in turns:
        if said.role == "assistant":
            found = genders.addressed(said.text)
            if found is not None:
                gender, start, end = found
                addressed.append(Tag("gender", gender, "form_of_address", said.turn, start, end, said.text[start:end]))
            continue
        if addressed and genders.REFUSED.search(said.text):
            addressed.clear()
        if said.asked:
            yield from _answered(said, as_of)
        yield from _told(Turn(said.turn, said.text, said.previous, others), as_of, own, said)
        statement = confirmed(said.previous, said.text) if said.yes else None
        if statement is not None and not OTHER.search(said.previous):
            for tag in _told(Turn(said.turn - 1, statement), as_of, own, EVERYTHING):
                before = said.previous[tag.start : tag.end]
                yield Tag(tag.field, tag.value, tag.code, tag.turn, tag.start, tag.end, before)
        others = others or (said.other and speaks_for_another(said.text))
    yield from addressed


def _told(turn: Turn, as_of: date, own: Mapping[str, Sequence[re.Pattern[str]]], has: Said) -> Iterator[Tag]:
    """What one turn states of its speaker, of the fields that it has a sign of."""
    text = turn.plain
    for rule in (*(ages.RULES if has.age else ()), *(genders.RULES if has.gender else ())):
        yield from _matches(turn, rule, as_of)
    if has.crowd:
        yield from _crowds(turn, as_of)
    for region, code, start, end, names in places.stated(text) if has.place else ():
        clause = re.split(r"[。！？!?；;，,、\n]", text[:start])[-1]
        if turn.asserts(start, end, own=names, of_now=code != "origin") and not places.ADVERBIAL.search(clause):
            for field, value in places.tags_of(region):
                yield _tag(turn, field, value, code, start, end)
    for name, patterns in own.items():
        for match in (match for pattern in patterns for match in pattern.finditer(text)):
            if turn.asserts(*match.span(), own=True, of_now=False):
                yield _tag(turn, "crowd", name, "statement", *match.span())


def _crowds(turn: Turn, as_of: date) -> Iterator[Tag]:
    for name, rules in crowds.RULES.items():
        for rule in rules:
            for tag in _matches(turn, rule, as_of, of_now=name in crowds.OF_NOW):
                rest = CLAUSE.split(turn.plain[tag.end :])[0]
                if rule.own or not crowds.ASKED_IN_GENERAL.search(rest):  # 怀孕能坐飞机吗 is nobody's
                    yield tag
    if crowds.NOT_PARENT.search(turn.plain):
        return
    for match in crowds.PARENTS.finditer(turn.plain):
        if turn.asserts(match.start(), match.start(), own=True, of_now=False):
            yield _tag(turn, "crowd", "parent", "statement", *match.span())


def _matches(turn: Turn, rule: Rule, as_of: date, *, of_now: bool = True) -> Iterator[Tag]:
    for match in rule.pattern.finditer(turn.plain):
        start, end = match.span()
        if start < end and turn.asserts(start, end, own=rule.own, of_now=of_now):
            for field, value in rule.read(match, as_of):
                yield _tag(turn, field, value, rule.code, start, end)


def _answered(said: Said, as_of: date) -> Iterator[Tag]:
    """What a short answer tells because of the question."""
    if NO.match(said.text) or OTHER.search(said.text) or OTHER.search(said.previous):
        return
    turn = Turn(said.turn, said.text)
    question = re.split(r"[。！!\n]", said.previous.strip("。！! \n"))[-1]
    if re.search(genders.ASKS_RELATION, question):
        return
    for asks, rules in ((ages.ASKS, ages.ANSWERS), (genders.ASKS, genders.ANSWERS), (crowds.ASKS, crowds.ANSWERS)):
        if re.search(asks, question, re.IGNORECASE):
            for rule in rules:
                yield from _matches(turn, rule, as_of)
    if re.search(places.ASKS, question, re.IGNORECASE) and not places.NOT_ASKED.search(question):
        for region, code, start, end, _ in places.answered(turn.plain):
            for field, value in places.tags_of(region):
                yield _tag(turn, field, value, code, start, end)


def _tag(turn: Turn, field: str, value: str, code: str, start: int, end: int) -> Tag:
    return Tag(field, value, code, turn.index, start, end, turn.text[start:end])
