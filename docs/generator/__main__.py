"""`make docs` writes the generated pages; with `--check` it only says which are not current, and ends with 1."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from docs.generator import api, commands, operators, settings

DOCS = Path(__file__).parent.parent
PAGES: Mapping[str, Callable[[], str]] = {
    "operators.md": operators.page,
    "settings.md": settings.page,
    "commands.md": commands.page,
    "api.md": api.page,
}
MARK = "<!-- Written by `make docs`; change what it describes, not this page. -->\n\n"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; say what is not current.")
def main(check: bool) -> None:
    """Writes the generated pages of the docs."""
    stale = 0
    for name, make in PAGES.items():
        path, page = DOCS / name, MARK + make()
        if path.exists() and path.read_text("utf-8") == page:
            continue
        stale += 1
        if check:
            click.echo(f"docs/{name} is not current: run `make docs`", err=True)
        else:
            path.write_text(page, "utf-8")
            click.echo(f"wrote docs/{name}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main(prog_name="make docs")
