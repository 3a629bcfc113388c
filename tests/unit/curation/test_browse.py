"""The read side of a version: pages lose nothing, filters say what they cannot know."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_versions import conversation, made_version

from curation.browse import FilterError, Folder, get_conversation, list_conversations, list_trace

RECIPE = {
    "operators": [
        {"kind": "structure_dialogue"},
        {"kind": "smooth_disfluency"},
        {"kind": "tag_users"},
        {"kind": "match_sensitive_words", "words": ["百家乐"], "action": "drop_conversation"},
    ]
}
USERS = [
    {"gender": "female", "city": "成都"},
    {"gender": "male", "city": "成都"},
    {"gender": "female", "crowd": ["vip"]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    kept = [conversation(f"c{i}", ("user", f"呃，运费{i}"), ("assistant", "好"), user=USERS[i % 3]) for i in range(9)]
    lost = [conversation("silent", ("user", "有人吗")), conversation("bet", ("user", "来百家乐"), ("assistant", "不"))]
    return made_version(tmp_path_factory.mktemp("version"), [lost[0], *kept[:5], lost[1], *kept[5:]], RECIPE, 3)[0]


def _all(page_after: Callable[[Any], tuple[list[dict[str, Any]], bool]], key: str) -> list[dict[str, Any]]:
    found, more = page_after(None)
    while more:
        page, more = page_after(found[-1][key])
        assert page
        found += page
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_hold_every_conversation_once_in_the_inputs_order(folder: Folder, limit: int) -> None:
    rows = _all(lambda after: list_conversations(folder, after=after, limit=limit, filters={}), "id")
    assert [row["id"] for row in rows] == [f"c{i}" for i in range(9)]
    female = {"gender": "female"}
    rows = _all(lambda after: list_conversations(folder, after=after, limit=limit, filters=female), "id")
    assert [row["id"] for row in rows] == ["c0", "c2", "c3", "c5", "c6", "c8"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"city": "成都市"}, [0, 1, 3, 4, 6, 7]),
        ({"city": "成都市", "gender": "female"}, [0, 3, 6]),
        ({"crowd": "vip", "q": "运费5"}, [5]),
        ({"province": "四川省", "operator": "smooth_disfluency", "code": "filler"}, [0, 1, 3, 4, 6, 7]),
        ({"q": "呃"}, []),
    ],
)
def test_filters_combine(folder: Folder, filters: dict[str, str], expected: list[int]) -> None:
    rows, more = list_conversations(folder, after=None, limit=100, filters=filters)
    assert [row["id"] for row in rows] == [f"c{i}" for i in expected]
    assert not more


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [("silent", "structure_dialogue"), ("bet", "match_sensitive_words")]),
        ({"q": "百家乐"}, [("bet", "match_sensitive_words")]),
        ({"q": "百家乐", "operator": "structure_dialogue"}, []),
        ({"code": "no_reply"}, [("silent", "structure_dialogue")]),
    ],
)
def test_dropped_ones_are_searched_as_they_came_in(
    folder: Folder, filters: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    rows = _all(lambda after: list_conversations(folder, after=after, limit=1, filters=filters, dropped=True), "id")
    assert [(row["id"], row["operator"]) for row in rows] == expected


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_trace_pages_are_numbered_through(folder: Folder, limit: int) -> None:
    rows = _all(lambda after: list_trace(folder, filters={}, after=-1 if after is None else after, limit=limit), "row")
    assert [row["row"] for row in rows] == list(range(len(rows)))
    mine, _ = list_trace(folder, filters={"conversation_id": "c4", "action": "edit"})
    assert mine == [row for row in rows if row["conversation_id"] == "c4" and row["action"] == "edit"]
    assert mine


@pytest.mark.parametrize(
    ("filters", "field"),
    [({"operator": "truncate_history"}, "operator"), ({"age_band": "20-30"}, "age_band"), ({"gender": "女"}, "gender"), ({"colour": "red"}, "colour")],
)  # fmt: skip
def test_a_filter_that_nothing_can_match_is_named(folder: Folder, filters: dict[str, str], field: str) -> None:
    with pytest.raises(FilterError) as error:
        list_conversations(folder, after=None, limit=1, filters=filters)
    assert error.value.field == field
    assert str(error.value).startswith(f"{field}: ")


def test_a_window_leads_to_its_conversation_unless_another_has_that_name(tmp_path: Path) -> None:
    long = conversation("long", *[(role, f"{role}{i}" * 8) for i in range(12) for role in ("user", "assistant")])
    namesake = conversation("long/2", ("user", "q"), ("assistant", "a"))
    recipe = {"operators": [{"kind": "structure_dialogue"}, {"kind": "truncate_history", "mode": "windows", "max_source_length": 64, "max_target_length": 32}]}  # fmt: skip
    folder, _ = made_version(tmp_path, [long, namesake], recipe)
    found = get_conversation(folder, "long/1")
    assert found is not None
    assert found["original"] == {**long, "user": {}, "meta": {}}
    assert len(found["windows"]) > 2
    other = get_conversation(folder, "long/2")
    assert other is not None
    assert other["original"]["messages"] == namesake["messages"]
    assert get_conversation(folder, "nobody") is None
