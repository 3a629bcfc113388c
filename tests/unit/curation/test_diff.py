"""Differences of versions: every conversation is counted once, and told with both sides and why."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_versions import STRUCTURE, conversation, made_version

from curation.browse import FilterError
from curation.diff import Difference, diff_counts, diff_recipes, diff_versions

SMOOTH = {"operators": [{"kind": "structure_dialogue"}, {"kind": "smooth_disfluency"}]}
FIRST = [conversation(f"c{i}", ("user", f"问题{i}"), ("assistant", "好")) for i in range(6)]


def _all_pages(before: Any, after: Any, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page: Difference = diff_versions(before, after, last=found[-1]["id"] if found else None, **options)
        found += page.conversations
        if not page.has_more:
            return found


def test_added_removed_and_changed_conversations_are_told_with_both_sides(tmp_path: Path) -> None:
    second = [
        conversation("new", ("user", "喂"), ("assistant", "在")),
        *FIRST[1:4],
        conversation("c4", ("user", "呃，问题四"), ("assistant", "好")),
        conversation("c5", ("user", "没人回答")),
    ]
    before, _ = made_version(tmp_path / "before", FIRST, segment_rows=2)
    after, _ = made_version(tmp_path / "after", second, SMOOTH, segment_rows=4)
    found = diff_versions(before, after, limit=10)
    assert found.counts == {"added": 1, "removed": 2, "changed": 1, "unchanged": 3}
    assert not found.has_more
    added, changed, *removed = found.conversations
    assert (added["id"], added["change"], added["before"]) == ("new", "added", None)
    assert added["after"]["messages"] == second[0]["messages"]
    assert (changed["id"], changed["change"], changed["operators"]) == ("c4", "changed", ["smooth_disfluency"])
    assert changed["before"]["messages"][0]["content"] == "问题4"
    assert changed["after"]["messages"][0]["content"] == "问题四"
    assert [(one["id"], one["after"], one["dropped"]) for one in removed] == [
        ("c0", None, None),
        ("c5", None, {"operator": "structure_dialogue", "code": "no_reply"}),
    ]


def test_a_conversation_in_windows_is_compared_as_a_whole(tmp_path: Path) -> None:
    long = [
        conversation("long", *[(role, f"{role}{i}" * 8) for i in range(12) for role in ("user", "assistant")]),
        FIRST[0],
    ]
    windows = {
        "operators": [
            {"kind": "structure_dialogue"},
            {"kind": "truncate_history", "mode": "windows", "max_source_length": 64, "max_target_length": 32},
        ]
    }
    whole, _ = made_version(tmp_path / "whole", long)
    cut, manifest = made_version(tmp_path / "cut", long, windows)
    assert manifest["counts"]["rows"] > 2
    found = diff_versions(whole, cut, limit=10)
    assert found.counts == {"added": 0, "removed": 0, "changed": 1, "unchanged": 1}
    (change,) = found.conversations
    assert change["before"]["windows"] is None
    assert [row["id"] for row in change["after"]["windows"]] == [
        f"long/{i}" for i in range(1, manifest["counts"]["rows"])
    ]
    assert diff_versions(cut, cut, limit=10).counts["unchanged"] == 2


EDITED = st.dictionaries(st.integers(0, 30), st.sampled_from(["一", "二"]), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=EDITED, new=EDITED, bucket_rows=st.integers(1, 40), limit=st.integers(1, 5))
def test_pages_and_buckets_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, old: dict[int, str], new: dict[int, str], bucket_rows: int, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("versions")
    before, after = (
        made_version(
            folder / name,
            [conversation(f"c{i}", ("user", text), ("assistant", "好")) for i, text in texts.items()],
            segment_rows=3,
        )[0]
        for name, texts in (("before", old), ("after", new))
    )
    pages = _all_pages(before, after, limit=limit, bucket_rows=bucket_rows)
    expected = [(f"c{i}", "changed" if i in old else "added") for i in new if new[i] != old.get(i)]
    expected += [(f"c{i}", "removed") for i in old if i not in new]
    assert [(one["id"], one["change"]) for one in pages] == expected
    counts = diff_versions(before, after, limit=1, bucket_rows=bucket_rows).counts
    assert sum(counts.values()) == len(old.keys() | new.keys())
    only = _all_pages(before, after, limit=limit, bucket_rows=bucket_rows, change="removed")
    assert [one["id"] for one in only] == [name for name, change in expected if change == "removed"]


def test_a_cursor_or_change_that_nothing_has_is_refused(tmp_path: Path) -> None:
    version, _ = made_version(tmp_path, FIRST)
    with pytest.raises(FilterError) as error:
        diff_versions(version, version, last="nobody")
    assert error.value.field == "after"
    with pytest.raises(FilterError) as error:
        diff_versions(version, version, change="renamed")
    assert error.value.field == "change"


def test_recipes_differ_by_operator_and_field() -> None:
    smooth = {"kind": "smooth_disfluency", "grammar": True, "fillers": True}
    old = {"operators": [STRUCTURE["operators"][0], smooth, {"kind": "tag_users"}]}
    new = {"operators": [{"kind": "tag_users"}, {**smooth, "grammar": False}, smooth]}
    assert diff_recipes(old, new) == {
        "added": ["smooth_disfluency#2"],
        "removed": ["structure_dialogue"],
        "changed": [{"operator": "smooth_disfluency", "fields": {"grammar": {"before": True, "after": False}}}],
        "reordered": True,
    }
    assert diff_recipes(old, old) == {"added": [], "removed": [], "changed": [], "reordered": False}


def test_counts_show_both_sides_even_where_one_has_none() -> None:
    difference = diff_counts({"rows": 1, "by_operator": {"a": {"edited": 2}}}, {"rows": 3, "by_operator": {}})
    assert difference == {
        "rows": {"before": 1, "after": 3},
        "by_operator": {"a": {"edited": {"before": 2, "after": 0}}},
    }
