"""Whatever a user can set, call or run is told in the docs, and the generated pages are current."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from app.auth import SCOPES
from app.cli import main
from app.main import create_app
from app.settings import Settings
from curation.operator import MENDED, REGISTRY, describe_operators
from docs.generator.__main__ import MARK, PAGES
from trainer.__main__ import train_parser

ROOT = Path(__file__).parents[2]
DOCS = {path.name: path.read_text("utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
SOURCES = [path for folder in ("app", "worker", "curation", "trainer") for path in (ROOT / folder).rglob("*.py")]


def _section(page: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", DOCS[page], re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/{page} has no heading {title}"
    return found[1]


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize("name", list(PAGES))
def test_a_generated_page_is_current(name: str) -> None:
    assert MARK + PAGES[name]() == DOCS[name], "run `make docs`"


@pytest.mark.parametrize(("path", "command"), list(_commands(main, "talkmill")))
def test_a_command_and_its_options_are_documented(path: str, command: click.Command) -> None:
    section = _section("commands.md", path)
    assert command.help
    assert command.help in section
    options = [one for one in command.params if isinstance(one, click.Option)]
    for option in options:
        assert option.help, f"{path} {option.opts[0]} has no help"
        assert set(re.findall(r"--[\w-]+", section)) >= set(option.opts)
    if path == "talkmill train":
        for action in train_parser()._actions:
            assert action.help
            assert action.dest == "help" or all(name in section for name in action.option_strings)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_a_setting_is_documented(name: str) -> None:
    row = next(line for line in DOCS["settings.md"].splitlines() if line.startswith(f"| `TALKMILL_{name.upper()}` |"))
    assert len(row.split("|")[-2].strip()) > 10, "its meaning is a docstring below the setting"


def test_every_variable_that_the_code_reads_is_documented() -> None:
    read = {name for path in SOURCES for name in re.findall(r"TALKMILL_[A-Z][A-Z_]*[A-Z]", path.read_text("utf-8"))}
    assert {name for name in read if name not in DOCS["settings.md"]} == set()


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_an_operator_is_documented(kind: str) -> None:
    operator, section = REGISTRY[kind], _section("operators.md", kind)
    assert len(operator.description) > 20, "it says what it does in its config's docstring"
    assert operator.description in section
    for field, one in operator.config.model_fields.items():
        assert one.description, f"{kind}.{field} has no docstring"
        assert f"| `{field}` |" in section
    for code, meaning in [*operator.codes.items(), *MENDED.items()]:
        assert meaning
        assert f"| `{code}` | {meaning} |" in DOCS["operators.md"]
    assert "Example: " in section
    (told,) = [one for one in describe_operators() if one["kind"] == kind]
    assert list(told["code_meanings"]) == told["codes"] == list(operator.codes)


ROUTES: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": one
    for path, methods in create_app().openapi()["paths"].items()
    for method, one in methods.items()
}


@pytest.mark.parametrize("route", list(ROUTES))
def test_a_route_is_documented(route: str) -> None:
    described = ROUTES[route]
    assert described["summary"]
    assert len(described.get("description", "")) > 5, "it says what it does in its function's docstring"
    assert f"| `{route}` |" in DOCS["api.md"]


def test_every_scope_says_what_it_allows() -> None:
    section = _section("api.md", "What each scope allows")
    for scope in SCOPES:
        row = next(line for line in section.splitlines() if line.startswith(f"| `{scope}` |"))
        assert "/v1/" in row


def test_every_test_that_a_promise_of_security_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCS["security.md"]))
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))
    }
    assert len(named) > 30
    assert named - tests == set()


def test_every_make_target_is_documented() -> None:
    phony = next(line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if line.startswith(".PHONY"))
    section = _section("commands.md", "make")
    assert [name for name in phony.split()[1:] if f"| `make {name}` |" not in section] == []


def test_every_file_that_the_architecture_names_is_there() -> None:
    named = set(re.findall(r"`([\w./-]+\.(?:py|md|toml)|[\w/]+/)`", DOCS["architecture.md"]))
    assert len(named) > 40
    files = [
        str(path.relative_to(ROOT))
        for folder in (*SOURCES, *(ROOT / "docs").rglob("*.md"))
        for path in (folder, folder.parent)
    ]
    lost = [name for name in named if not any(f"/{path}/".endswith(f"/{name.rstrip('/')}/") for path in files)]
    assert [name for name in lost if not (ROOT / name).exists() and not (ROOT / "tests" / name).exists()] == []
