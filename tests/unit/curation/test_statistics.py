"""Statistics are the same from a closed version's counts and from its columns."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.command import curate
from curation.recipe import parse_recipe
from curation.segments import SEGMENT_SCHEMA
from curation.statistics import COUNTED, FIELDS, UNKNOWN, add_counts, count_tags, count_tokens, tag_statistics
from curation.users import list_users

VALUES: dict[str, list[Any]] = {
    "age_band": [None, "18-24", "65+"], "gender": [None, "female", "male"], "province": [None, "四川省", "浙江省"],
    "city": [None, "成都市"], "country": [None, "中国"], "crowd": [[], ["student"], ["parent", "student"], ["vip"]],
}  # fmt: skip
MESSAGES = [{"role": role, "content": "好的", "weight": None} for role in ("user", "assistant")] * 2
USERS = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()})
ROWS = st.lists(st.tuples(USERS, st.integers(0, 2), st.integers(1, 9), st.integers(0, 99)), max_size=12)
QUESTIONS = st.tuples(
    st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3, unique=True),
    st.lists(
        st.sampled_from(
            [("gender", "female"), ("gender", UNKNOWN), ("province", "四川省"), ("crowd", "student"), ("crowd", "vip")]
        ),
        max_size=3,
    ),
    st.sampled_from(COUNTED),
)


def _segment(rows: list[tuple[dict[str, Any], int, int, int]], path: Path) -> Path:
    table = [
        {
            "id": f"{path.stem}-{i}",
            "conversation_id": f"{path.stem}-{i}",
            "window": window,
            "messages": MESSAGES,
            "user": user,
            "turns": turns,
            "characters": size,
        }
        for i, (user, window, turns, size) in enumerate(rows)
    ]
    pl.DataFrame(table, SEGMENT_SCHEMA, orient="row").write_parquet(path)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(ROWS, min_size=1, max_size=3), question=QUESTIONS)
def test_counts_and_columns_answer_alike(
    tmp_path: Path, parts: list[Any], question: tuple[list[str], list[tuple[str, str]], str]
) -> None:
    segments = [_segment(rows, tmp_path / f"{index}.parquet") for index, rows in enumerate(parts)]
    by, where, metric = question
    counts = count_tags(segments)
    assert tag_statistics([], by=by, where=where, metric=metric, counts=counts) == tag_statistics(
        segments, by=by, where=where, metric=metric
    )
    whole = sum(window <= 1 for rows in parts for _, window, _, _ in rows)
    assert counts["conversations"].sum() == whole
    assert tag_statistics([], by=by, metric="conversations", counts=counts)["total"] == whole


@pytest.mark.parametrize("metric", ["users", "tokens"])
def test_what_does_not_add_up_comes_from_the_columns(tmp_path: Path, metric: str) -> None:
    user = {"id": "u1", "gender": "female", "crowd": []}
    segments = [_segment([(user, 0, 2, 5)] * 3, tmp_path / f"{index}.parquet") for index in range(2)]
    answer = tag_statistics(segments, by=["gender"], metric=metric, counts=count_tags(segments))
    assert answer == tag_statistics(segments, by=["gender"], metric=metric)
    assert answer["total"] == {"users": 1, "tokens": 6 * 4}[metric]


def test_tokens_of_windows_are_counted_where_they_stand_first(tmp_path: Path) -> None:
    turns = [{"role": ("user", "assistant")[i % 2], "content": str(i), "weight": None} for i in range(6)]
    system = {"role": "system", "content": "s", "weight": None}
    windows = [[system, *turns[:4]], [system, *turns[2:6]]]
    table = [
        {"id": f"c/{i}", "conversation_id": "c", "window": i, "messages": messages, "user": {"crowd": []}, "turns": 0}
        for i, messages in enumerate(windows, 1)
    ]
    pl.DataFrame(table, SEGMENT_SCHEMA, orient="row").write_parquet(tmp_path / "0.parquet")
    segments = [tmp_path / "0.parquet", tmp_path / "0.parquet"]
    assert tag_statistics(segments[:1], by=["gender"], metric="tokens")["total"] == 7
    kept = add_counts([count_tokens(segments[:1], None), count_tokens(segments[1:], None)])
    assert tag_statistics([], by=["gender"], metric="tokens", counts=kept)["total"] == 14


def test_a_user_of_several_conversations_is_counted_once_with_one_set_of_tags(tmp_path: Path) -> None:
    told = [
        {"id": "u", "gender": "female", "province": "四川省", "crowd": ["pregnant", "vip"]},
        {"id": "u", "province": "浙江省", "crowd": ["student"]},
        {"id": "v", "gender": "male", "crowd": ["new_customer"]},
        {"gender": "male", "crowd": []},
    ]
    segments = [_segment([(user, 0, 2, 5)], tmp_path / f"{index}.parquet") for index, user in enumerate(told)]

    def users(field: str, **asked: Any) -> dict[str, int]:
        answer = tag_statistics(segments, by=[field], metric="users", **asked)
        assert answer["total"] == (1 if asked else 3)
        return {row[field]: row["value"] for row in answer["rows"]}

    assert users("gender") == {"female": 1, "male": 2}
    assert users("province") == {"浙江省": 1, "unknown": 2}, "the latest of a user's counts"
    assert users("crowd") == {"student": 1, "vip": 1, "new_customer": 1, "unknown": 1}, "a pregnancy ends"
    assert users("crowd", where=[("province", "浙江省")]) == {"student": 1, "vip": 1}


def _talks(said: list[tuple[dict[str, Any], str]], folder: Path) -> tuple[list[Path], list[Path]]:
    """Segments and traces of a version of one conversation each, c0, c1, …"""
    lines = [
        {
            "id": f"c{i}",
            "user": user,
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "好的"}],
        }
        for i, (user, text) in enumerate(said)
    ]
    (folder / "talks.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    recipe = parse_recipe({"operators": [{"kind": "tag_users"}]})
    curate([folder / "talks.jsonl"], folder / "out", recipe=recipe, as_of=date(2026, 11, 1))
    segments, traces = (sorted((folder / "out" / name).glob("*.parquet")) for name in ("segments", "trace"))
    return segments, traces


ONE = [
    ({"id": "one", "city": "杭州"}, "我在成都上班，今年二十五岁"),
    ({"id": "one"}, "我住在北京，我是男的"),
    ({"id": "one"}, "我是女的，今年三十八岁"),
]


def test_between_two_conversations_of_a_user_the_better_source_wins(tmp_path: Path) -> None:
    segments, traces = _talks(ONE, tmp_path)
    by = ["city", "province", "gender", "age_band"]
    (row,) = tag_statistics(segments, by=by, metric="users", traces=traces)["rows"]
    assert row == {
        "city": "杭州市", "province": "浙江省",  # told by metadata, though two later conversations say otherwise
        "gender": "female", "age_band": "35-44",  # of equal sources the latest
        "value": 1, "share": 1.0,
    }  # fmt: skip
    (latest,) = tag_statistics(segments, by=["city"], metric="users")["rows"]
    assert latest["city"] == "北京市", "without the trace the latest wins"


def test_the_tags_of_a_user_tell_where_they_come_from_and_what_lost(tmp_path: Path) -> None:
    said = [
        *ONE,
        ({"id": "two", "crowd": ["pregnant", "vip"]}, "你好"),
        ({}, "我是男的"),
        ({"id": "two", "crowd": ["student"]}, "我是女的"),
        ({"id": "three", "crowd": ["pregnant"]}, "你好"),
    ]
    segments, traces = _talks(said, tmp_path)
    everybody, more = list_users(segments, traces, after=None, limit=9, conflicts=False)
    assert ([user["user"] for user in everybody], more) == (["one", "three", "two"], False)
    one, three, two = everybody
    assert one["conversations"] == 3
    assert one["tags"]["city"] == {
        "value": "杭州市", "source": "metadata", "follows_from": None, "conversation_id": "c0",
        "lost": [{"value": "北京市", "source": "statement", "follows_from": None, "conversation_id": "c1"}],
    }  # fmt: skip
    province = one["tags"]["province"]
    assert (province["source"], province["follows_from"], province["conversation_id"]) == (
        "derived",
        "city=杭州市",
        "c0",
    )
    gender = one["tags"]["gender"]
    assert (gender["value"], gender["conversation_id"]) == ("female", "c2"), "of equal sources the latest"
    assert [(lost["value"], lost["conversation_id"]) for lost in gender["lost"]] == [("male", "c1")]
    assert [crowd["value"] for crowd in three["crowds"]] == ["pregnant"], "told by the latest conversation"
    assert [(crowd["value"], crowd["source"]) for crowd in two["crowds"]] == [
        ("student", "metadata"),
        ("vip", "metadata"),
    ]
    assert [(crowd["value"], crowd["conversation_id"]) for crowd in two["crowds_left"]] == [("pregnant", "c3")]

    page, more = list_users(segments, traces, after=None, limit=1, conflicts=True)
    assert (page, more) == ([one], True)
    assert list_users(segments, traces, after="one", limit=1, conflicts=True) == ([two], False)
    counted = tag_statistics(
        segments, by=["city", "gender"], where=[("gender", "female")], metric="users", traces=traces
    )
    assert {row["city"] for row in counted["rows"]} == {"杭州市", UNKNOWN}, "the same tags as metric=users counts"
