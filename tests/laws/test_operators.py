"""What holds for every operator, whatever the text: nothing is lost, everything is explained, neighbours do not matter.

The laws run over the registry. An operator brings its own settings and words by its golden cases.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from golden.cases import AS_OF, Case, joined
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.conversations import KINDS, cases_of, conversations
from laws.replay import replay

from curation.operator import MENDED, REGISTRY
from curation.preview import preview
from curation.recipe import DEFAULT_ORDER, Recipe

Conversations = list[dict[str, Any]]
BATCHES = settings(max_examples=settings().max_examples // 3)
"""A run costs about the same for one conversation as for ten, so fewer examples hold more of them."""
PER_CONVERSATION = [kind for kind in KINDS if REGISTRY[kind].barrier is None]


def _run(given: Conversations, recipe: Recipe) -> list[dict[str, Any]]:
    return preview(given, recipe, as_of=AS_OF)


def _messages(made: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Messages of each row that a conversation became."""
    rows = made["windows"] or ([made["curated"]] if made["curated"] else [])
    return [row["messages"] for row in rows]


@pytest.mark.parametrize("kind", KINDS)
@BATCHES
@given(data=st.data())
def test_the_trace_applied_to_the_original_gives_what_came_out(kind: str, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(cases_of(kind)))
    given = data.draw(conversations(kind))
    made = _run(given, case.recipe)
    assert [one["original"]["messages"] for one in made] == [one["messages"] for one in given]
    for one in made:
        _is_explained(one, case.recipe)


@BATCHES
@given(data=st.data())
def test_the_trace_of_a_whole_recipe_gives_what_came_out(data: st.DataObject) -> None:
    order = [kind for kind in DEFAULT_ORDER if kind != "truncate_history"]
    order += sorted(set(KINDS) - set(DEFAULT_ORDER))
    chosen = data.draw(
        st.lists(st.sampled_from(order), unique=True, min_size=2).map(lambda kinds: sorted(kinds, key=order.index))
    )
    cases: list[Case] = [data.draw(st.sampled_from(cases_of(kind))) for kind in chosen]
    recipe = joined(cases)
    for one in _run(data.draw(conversations(data.draw(st.sampled_from(chosen)))), recipe):
        _is_explained(one, recipe)


def _is_explained(one: dict[str, Any], recipe: Recipe) -> None:
    """The trace of one conversation says all of what happened to it, with declared codes."""
    configs = {operator.kind: config for operator, config, _ in recipe.steps}
    unlearn = [kind for kind, config in configs.items() if not getattr(config, "learn_masked", True)]
    for row in one["trace"]:
        declared = {*REGISTRY[row["operator"]].codes, *MENDED}
        assert row["code"] in declared or any(code.startswith("<") for code in declared)
        assert row["conversation_id"] == one["original"]["id"]
    verdicts = [(row["operator"], row["code"]) for row in one["trace"] if row["action"] == "drop_conversation"]
    turns = replay(one["original"]["messages"], one["trace"], unlearn)
    if one["dropped"] is not None:
        assert one["curated"] is None
        assert verdicts == [(one["dropped"]["operator"], one["dropped"]["code"])]
        return
    assert not verdicts
    cuts = [row for row in one["trace"] if row["action"] == "cut"]
    if cuts or one["windows"]:
        _is_covered(_messages(one), turns, one["windows"] is not None)
    else:
        assert one["curated"]["messages"] == list(turns.values())


def _is_covered(rows: Sequence[Sequence[dict[str, Any]]], turns: dict[int, dict[str, Any]], several: bool) -> None:
    """Rows of a conversation that was cut hold its turns, or an end of one, in their order; all turns are in some row."""
    held: Counter[int] = Counter()
    for row in rows:
        places = iter(turns)
        for message in row:
            held[next(place for place in places if _is_part(message, turns[place]))] += 1
    assert several or set(held) == set(turns)


def _is_part(message: dict[str, Any], turn: dict[str, Any]) -> bool:
    whole, part = turn["content"], message["content"]
    return message["role"] == turn["role"] and (whole.startswith(part) or whole.endswith(part))


@pytest.mark.parametrize("kind", PER_CONVERSATION)
@BATCHES
@given(data=st.data())
def test_neither_neighbours_nor_order_matter(kind: str, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(cases_of(kind)))
    given = data.draw(conversations(kind))
    some = data.draw(st.permutations(range(len(given))).map(lambda order: order[: max(1, len(given) // 2)]))
    together = _run(given, case.recipe)
    assert _run([given[place] for place in some], case.recipe) == [together[place] for place in some]


@pytest.mark.parametrize("kind", KINDS)
@BATCHES
@given(data=st.data())
def test_running_twice_changes_nothing_more(kind: str, data: st.DataObject) -> None:
    """What truncation cut is left out: a reply of the full length is indistinguishable from one that was cut there."""
    case = data.draw(st.sampled_from([case for case in cases_of(kind) if case.content.get("again", True)]))
    given = data.draw(conversations(kind))
    once = [
        {**sent, "messages": made["curated"]["messages"]}
        for sent, made in zip(given, _run(given, case.recipe), strict=True)
        if made["curated"] and not any(row["action"] in ("split", "cut") for row in made["trace"])
    ]
    for sent, made in zip(once, _run(once, case.recipe), strict=True):
        assert made["curated"] is not None
        assert made["curated"]["messages"] == sent["messages"]


@BATCHES
@given(data=st.data())
def test_a_dropped_turn_takes_its_reply_along_and_leaves_no_two_user_turns(data: st.DataObject) -> None:
    structure = next(case for case in cases_of("structure_dialogue") if case.content.get("example"))
    drops = [case for kind in KINDS for case in cases_of(kind) if case.content["config"].get("action") == "drop_turn"]
    case = data.draw(st.sampled_from(drops))
    for one in _run(data.draw(conversations(case.kind)), joined([structure, case])):
        dropped = {row["turn"] for row in one["trace"] if row["operator"] == case.kind and row["action"] == "drop_turn"}
        if one["curated"] and dropped:
            roles = [message["role"] for message in one["curated"]["messages"]]
            assert ("user", "user") not in pairwise(roles)
            assert "assistant" in roles
