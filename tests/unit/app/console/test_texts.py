"""Both languages say the same things, and say whatever templates and scripts ask for."""

import json
import re
from string import Formatter

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from app.console.language import FOLDER, SHARED, texts_for, texts_of
from app.console.pages import STATIC
from curation.operator import REGISTRY

TEMPLATES = FOLDER.parent / "templates"
EN, ZH = (json.loads((FOLDER / f"{language}.json").read_bytes()) for language in ("en", "zh"))


def test_both_languages_have_the_same_names_and_blanks() -> None:
    assert EN.keys() == ZH.keys()
    for name in EN:
        blanks = [{field for _, field, _, _ in Formatter().parse(text[name]) if field} for text in (EN, ZH)]
        assert blanks[0] == blanks[1], name


def test_chinese_is_chinese() -> None:
    same = {name for name in EN if EN[name] == ZH[name]}
    assert same <= {"export.openai", "export.parquet", "value.vip", "measure.f1", "measure.f0_5"} | {
        name for name in same if not re.search("[a-z]{4}", EN[name])
    }


def test_every_text_that_a_template_names_is_there() -> None:
    for path in TEMPLATES.rglob("*.jinja"):
        page = path.read_text("utf-8")
        names = set(re.findall(r"""\bt\(["']([\w.]+)["'][,)]""", page))
        names |= {
            f"{name}.{end}"
            for name in re.findall(r'pieces\.empty\("([\w.]+)"', page)
            for end in ("empty", "empty_hint")
        }
        names |= set(re.findall(r'pieces\.page\("[^"]+", "\w", "([\w.]+)"', page))
        assert names - EN.keys() == set(), path.name


def test_every_text_that_a_script_names_is_there() -> None:
    known = texts_of("en").for_scripts()
    assert all(name.startswith(SHARED) or f"js.{name}" in EN for name in known)
    for path in STATIC.glob("*.js"):
        assert set(re.findall(r'\bsay\("([\w.]+)"', path.read_text("utf-8"))) - known.keys() == set(), path.name


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_operator_has_a_name_and_a_description(kind: str) -> None:
    assert f"operator.{kind}" in EN
    assert f"about.{kind}" in EN


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-GB,zh;q=0.5", "en"), ("fr,zh-TW;q=0.4", "zh"), ("fr", "en"), ("", "en"),
        ("zh;q=nonsense,en;q=0.1", "en"), ("en;q=0.1,zh;q=0.2", "zh"),
    ],
)  # fmt: skip
def test_the_browser_says_which_language(header: str, language: str) -> None:
    asked = Request({"type": "http", "headers": [(b"accept-language", header.encode())]})
    assert texts_for(asked).language == language


def test_what_the_user_picked_wins(client: TestClient) -> None:
    client.get("/console/language/zh?next=/console/sign-in")
    assert client.get("/console/sign-in", headers={"accept-language": "en"}).headers["content-language"] == "zh"
    client.get("/console/language/tlh?next=/console/sign-in")
    assert client.get("/console/sign-in", headers={"accept-language": "en"}).headers["content-language"] == "zh"
