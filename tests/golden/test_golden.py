"""The operators do, word for word, what their golden cases recorded; the cases show all that operators do."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from golden.cases import FOLDER, Case, all_cases, example_of, written

from curation.operator import MENDED, REGISTRY

CASES = all_cases()
KINDS = sorted(REGISTRY)
EDGES: Mapping[str, re.Pattern[str]] = {
    "nothing": re.compile(r"\A\Z"),
    "NUL": re.compile("\x00"),
    "emoji": re.compile("[\U0001f300-\U0001faff]\u200d"),
    "right to left": re.compile("[\u0590-\u06ff]{2}"),
    "combining marks": re.compile("[A-Za-z][\u0300-\u036f]"),
    "Chinese": re.compile("[\u4e00-\u9fff]{4}"),
    "English": re.compile("[a-z]{3} [a-z]{2}"),
}
UNREACHED = {"truncate_history": {"unsupported_roles"}}
"""Codes that no input reaches yet: the packaged chat template, the only one of a recipe, refuses no order of roles."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operator_does_what_was_recorded(case: Case) -> None:
    if (fault := case.fault()) is not None:
        pytest.fail(fault)
    assert case.path.read_text("utf-8") == written(case.content), "`make golden` writes it otherwise"


@pytest.mark.parametrize("kind", KINDS)
def test_the_cases_of_an_operator_show_every_code_and_every_edge(kind: str) -> None:
    mine = [case for case in CASES if case.kind == kind]
    assert [case.name for case in mine if case.content.get("example")][1:] == [], "the docs show one example"
    assert any(case.content.get("example") for case in mine), f"mark a case of tests/golden/{kind} as `example`"
    for name, pattern in EDGES.items():
        assert any(pattern.search(text) for case in mine for text in case.texts), f"no case with {name}"
    shown = {row["code"] for case in mine for one in case.content["recorded"]["conversations"] for row in one["trace"]}
    declared = REGISTRY[kind].codes
    named = {code for code in declared if not code.startswith("<")} - UNREACHED.get(kind, set())
    assert named <= shown, f"no case shows {', '.join(sorted(named - shown))}"
    others = shown - named - set(MENDED)
    assert len(named) < len(declared) or not others, f"not among the codes of {kind}: {', '.join(sorted(others))}"


def test_every_folder_is_an_operators() -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir() and any(path.glob("*.json"))}
    assert folders == set(KINDS)


def test_an_outcome_that_changed_is_recorded_under_a_new_version_only(tmp_path: Path) -> None:
    source = example_of("structure_dialogue")
    path = tmp_path / "structure_dialogue" / "case.json"
    path.parent.mkdir()

    def with_recorded(version: int) -> Case:
        wrong = {"version": version, "conversations": [{"curated": None, "trace": []}]}
        path.write_text(written({**source.content, "recorded": wrong}), "utf-8")
        return Case(path)

    same = with_recorded(source.operator.version)
    assert "the outcome changed, the version did not" in str(same.fault())
    with pytest.raises(ValueError, match="raise `version`"):
        same.record()
    older = with_recorded(source.operator.version - 1)
    assert "run `make golden`" in str(older.fault())
    assert older.record()
    assert Case(path).fault() is None
    assert path.read_text("utf-8") == source.path.read_text("utf-8")
