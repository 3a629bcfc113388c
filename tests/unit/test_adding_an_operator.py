"""The page on adding an operator shows one that works."""

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest
from golden.cases import AS_OF

from curation.operator import REGISTRY
from curation.preview import preview
from curation.recipe import parse_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "adding-an-operator.md").read_text("utf-8")


def _block(first_line: str) -> str:
    """The indented text that begins with a line."""
    found = re.search(rf"^    {re.escape(first_line)}.*?(?=^\S)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return dedent(found[0])


def test_the_operator_of_the_page_does_what_its_golden_case_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.operator.REGISTRY", known := dict(REGISTRY))
    monkeypatch.setattr("curation.recipe.REGISTRY", known)
    exec(compile(_block('"""Take out question marks'), "drop_placeholders.py", "exec"), {})
    (kind,) = set(known) - set(REGISTRY)
    case = json.loads(_block("{"))
    recipe = parse_recipe({"operators": [{"kind": kind, **case["config"]}]})
    (made,) = preview(case["conversations"], recipe, as_of=AS_OF)
    assert [message["content"] for message in made["curated"]["messages"]] == [
        "您好？",
        "尊敬的先生，您好，请问有什么可以帮您？",
    ]
    assert [(row["operator"], row["code"]) for row in made["trace"]] == [(kind, *known[kind].codes)]
    assert f'    "{kind}",\n' in PAGE
    assert f"tests/golden/{kind}/example.json" in PAGE
