"""Conversations made of what operators are about: the words of their golden cases, and what is odd anywhere."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from golden.cases import Case, all_cases, example_of, joined
from hypothesis import strategies as st

from curation.operator import REGISTRY
from curation.recipe import DEFAULT_ORDER, Recipe

KINDS = sorted(REGISTRY)
PIECE = re.compile(r"[^\s，。！？,.!?]{1,12}|[\s，。！？,.!?]+")
ANYWHERE = [
    "嗯", "呃，", "那个，", "我我我", "我想", "查话费", "，", "。", "不对", "去北京", "去上海", "天天", "看看", "谢谢谢谢", "的的", "um, ",
    "I I ", "want to ", "you know, ", "王八蛋", "FUCK", "我今年34岁", "我在成都", "张女士您好", "😀", "\x00", " ", "三张", "四张票",
    "ＡＢ", "１：", "\u200b", "\u200d", "👩", "\u3000", "\r\n", "\n", "  ", "！！", "?", "&amp;", "nbsp;", "<br>", "</p>", "<", "`", "ｶ", "ﾞ",
    "שלום", "e\u0301", "[", "]", "_1", "0",
]  # fmt: skip


@lru_cache
def cases_of(kind: str) -> tuple[Case, ...]:
    """An operator's golden cases: where its settings and its words come from."""
    return tuple(case for case in all_cases() if case.kind == kind)


@lru_cache
def words_of(kind: str) -> tuple[str, ...]:
    """Pieces of what is said in an operator's golden cases."""
    return tuple(sorted({piece for case in cases_of(kind) for text in case.texts for piece in PIECE.findall(text)}))


@lru_cache
def conversations(kind: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Up to ten conversations in an operator's own words, some with the users of its golden cases."""
    word = st.sampled_from(ANYWHERE) | st.sampled_from(words_of(kind))
    text = st.lists(word, max_size=8).map("".join)
    turn = st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "user", "assistant", "system"]), "content": text},
        optional={"weight": st.sampled_from([0, 1])},
    ).map(_without_foreign_weight)
    turn |= st.sampled_from([turn for case in cases_of(kind) for turn in case.turns])
    users = [one["user"] for case in cases_of(kind) for one in case.content["conversations"] if "user" in one]
    one = {"messages": st.lists(turn, min_size=1, max_size=6), "user": st.sampled_from([*users, {}])}
    return st.lists(st.fixed_dictionaries(one), min_size=1, max_size=10).map(_numbered)


def every_operator() -> Recipe:
    """A recipe of all operators as in their golden examples: the default ones in their order, the others before the last."""
    *order, last = DEFAULT_ORDER
    examples = [example_of(kind) for kind in (*order, *sorted(set(KINDS) - set(DEFAULT_ORDER)), last)]
    return joined(examples)


def _without_foreign_weight(turn: Mapping[str, Any]) -> dict[str, Any]:
    """Only replies carry a weight."""
    return {name: value for name, value in turn.items() if name != "weight" or turn["role"] == "assistant"}


def _numbered(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": f"c{index}", **one} for index, one in enumerate(made)]
