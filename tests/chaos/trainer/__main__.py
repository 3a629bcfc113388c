"""`make chaos-training`: harms runs of the trainer in every way known and prints what came of it; 1 if anything was lost."""

import argparse
import sys
import tempfile
from pathlib import Path

from chaos.trainer.plan import Row, play_all
from rich.console import Console
from rich.table import Table


def main() -> int:
    """Plays what the options ask for."""
    parser = argparse.ArgumentParser(prog="make chaos-training", description=__doc__)
    parser.add_argument("--only", action="append", help="only faults with this in their name")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in play_all(Path(folder), lambda name: not options.only or any(part in name for part in options.only)):
            rows.append(row)
            console.print(f"{row.fault:36} {'lost: ' + row.lost if row.lost else 'ok'}", highlight=False)
    console.print(_table(rows))
    return 1 if any(row.lost for row in rows) else 0


def _table(rows: list[Row]) -> Table:
    table = Table(
        "fault", "detected by", "checkpoints", "records", "repeated", "s lost", "loss", title="Runs that heal"
    )
    for row in rows:
        loss = "" if row.loss is None else f"{row.loss:.3f}"
        cells = (row.fault, row.detected, row.checkpoint, str(row.records), str(row.steps_repeated))
        table.add_row(*cells, f"{row.seconds_lost:.0f}", loss, style="red" if row.lost else None)
    return table


if __name__ == "__main__":
    sys.exit(main())
