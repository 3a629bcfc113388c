"""Measures what the operators do to real text, against people's own corrections and on text that needs none.

Reads the real data beside the project (`../shared/data`); prints each figure with its bar and writes
`benchmarks/results/quality.json`. Exits with 2 where the data is missing. How each figure is counted: `docs/quality.md`.
"""

import argparse
import json
import sys
from dataclasses import asdict
from importlib import import_module

from rich.console import Console
from rich.table import Table

from benchmarks.quality.figures import DATA, ROOT, Figure

RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
SUBJECTS = ("smoothing", "smoother", "matching", "classifier", "reward", "personal", "duplicates", "tags")
"""Modules beside this one, each with a function `figures`."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make quality", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"any of {', '.join(SUBJECTS)}; else all")
    wanted = parser.parse_args().subjects or SUBJECTS
    console = Console(width=110)
    if not DATA.is_dir():
        console.print(f"the real data is not at {DATA}: nothing was measured")
        return 2
    figures = [figure for name in wanted for figure in import_module(f"benchmarks.quality.{name}").figures()]
    show(console, figures)
    if tuple(wanted) == SUBJECTS:
        RESULTS.parent.mkdir(exist_ok=True)
        told = [{**asdict(figure), "value": round(figure.value, 4), "reached": figure.reached} for figure in figures]
        RESULTS.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    return 0


def show(console: Console, figures: list[Figure]) -> None:
    table = Table("figure", "value", "bar", "")
    for figure in figures:
        bar = "" if figure.bar is None else f"{'≤' if figure.at_most else '≥'} {figure.bar:.3f}"
        mark = "[red]below[/red]" if figure.reached is False else ""
        table.add_row(figure.name, f"{figure.value:.4f}", bar, mark)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
