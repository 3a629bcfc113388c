"""A version's report as a page: HTML that stands alone, or Markdown."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

MARKDOWN_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~&!])")
LINE_BREAKS = re.compile(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")


def render_html(report: dict[str, Any]) -> str:
    """One page without scripts or anything to fetch; every text in it is escaped."""
    return _templates().get_template("report.html.jinja").render(report)


def render_markdown(report: dict[str, Any]) -> str:
    """The same story in Markdown; texts cannot become markup."""
    return _templates().get_template("report.md.jinja").render(report)


@lru_cache(maxsize=1)
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("app.datasets"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=select_autoescape(["html.jinja"], default=False),
    )  # fmt: skip
    environment.filters |= {"md": as_plain_markdown, "thousands": _with_thousands, "title": _title}
    return environment


def as_plain_markdown(text: object) -> str:
    """A text in one line of Markdown, none of whose signs are markup."""
    one_line = LINE_BREAKS.sub(" ⏎ ", "" if text is None else str(text))
    return MARKDOWN_MARKS.sub(r"\\\1", one_line)


def _with_thousands(number: int) -> str:
    return f"{number:,}"


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
