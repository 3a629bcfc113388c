"""The command `talkmill smoother`: the learned smoother without a server."""

import os
from pathlib import Path
from typing import Any

import click

from app.cli_curation import FILE, FOLDER, bars, ingested, told_in_one_line

COLUMNS = 'JSON map of the file\'s column names to ours: {"口语":"spoken"}.'


@click.group()
def smoother() -> None:
    """Smoothing learned from pairs of spoken and written text."""


@smoother.command()
@click.argument("pairs", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="Folder for the smoother; new or empty.")
@click.option("--holdout", default=0.1, show_default=True, help="Share of the pairs kept back to measure on.")
@click.option("--columns", help=COLUMNS)
@click.option("--epochs", type=int, help="Passes over the examples [14, more where pairs are few].")
@click.option("--inputs", type=int, help="Size of what is known of a character [48].")
@click.option("--units", type=int, help="Units of the network in each direction [56].")
@click.option("--seed", type=int, help="Of the first weights, the order and the made slips [0].")
def train(pairs: Path, out: Path, holdout: float, columns: str | None, **settings: Any) -> None:
    """Train on PAIRS: spoken and written text, as JSONL, JSON, CSV or Parquet."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small: threads would only wait for each other
    from curation.smoother_training import spoken_and_written, train_smoother

    given = {name: value for name, value in settings.items() if value is not None}
    with told_in_one_line(), bars() as shown, ingested(pairs, columns, "pairs") as (segments, quarantined):
        tasks = {stage: shown.add_task(stage, total=None, start=False) for stage in ("read", "train", "measure")}

        def tell(stage: str, done: int, total: int) -> None:
            shown.start_task(tasks[stage])
            shown.update(tasks[stage], completed=done, total=total or None)

        described = train_smoother(
            spoken_and_written(segments), out, holdout=holdout, hyperparameters=given, on_progress=tell
        )
    _show(described["metrics"], quarantined)
    click.echo(f"{described['digest']}; see {out}", err=True)


@smoother.command()
@click.argument("folder", type=FOLDER)
@click.argument("pairs", type=FILE)
@click.option("--columns", help=COLUMNS)
def evaluate(folder: Path, pairs: Path, columns: str | None) -> None:
    """Measure the smoother in FOLDER on PAIRS that it was not trained on; prints JSON."""
    import orjson

    from curation.smoother_training import evaluate as measured
    from curation.smoother_training import spoken_and_written

    with told_in_one_line(), ingested(pairs, columns, "pairs") as (segments, quarantined):
        metrics = measured(folder, spoken_and_written(segments))
    click.echo(orjson.dumps({**metrics, "quarantined": quarantined}, option=orjson.OPT_INDENT_2).decode())


def _show(metrics: dict[str, Any], quarantined: int) -> None:
    """A short table of a new smoother's figures, beside those of the rules alone."""
    from rich.console import Console
    from rich.table import Table

    table = Table("held out", "exact match", "precision", "recall", "F0.5")
    for name, figures in (("smoother", metrics), ("rules alone", metrics["rules_alone"])):
        table.add_row(name, *(f"{figures[key]:.3f}" for key in ("exact_match", "precision", "recall", "f05")))
    counts = metrics["counts"]
    console = Console(stderr=True)
    console.print(table)
    console.print(
        f"{counts['records']} records: {counts['train']} pairs trained on, {counts['holdout']} held out, "
        f"{counts['duplicates']} duplicates, {counts['empty']} empty, {counts['too_long']} too long, "
        f"{quarantined} quarantined"
    )
