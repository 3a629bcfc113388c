"""The commands `talkmill classifier` and `talkmill smoother`: learned filters without a server."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from app.cli_curation import FILE, FOLDER, bars, json_map, told_in_one_line


@click.group()
def classifier() -> None:
    """Filters learned from labelled texts."""


@classifier.command("train")
@click.argument("labels", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="Folder for the classifier; new or empty.")
@click.option("--holdout", default=0.1, show_default=True, help="Share of the texts kept back to measure on.")
@click.option("--columns", help='JSON map of the file\'s column names to ours: {"句子":"text"}.')
@click.option("--epoch", type=int, help="Passes over the texts [8, more where the texts are few].")
@click.option("--lr", type=float, help="Learning rate [0.6].")
@click.option("--dim", type=int, help="Size of the vectors [16].")
@click.option("--word-ngrams", type=int, help="Longest n-gram of characters (Chinese) or words [4].")
@click.option("--char-ngrams", type=int, help="Longest n-gram inside a word, from 3; 0 for none [4].")
@click.option("--min-count", type=int, help="N-grams in fewer texts are left out [2].")
@click.option("--bucket", type=int, help="Most n-grams; the rarest are left out [500000].")
@click.option("--loss", help="softmax, or ova for scores that do not add up to one [softmax].")
@click.option("--balance/--no-balance", default=None, help="Repeat texts of rare labels [balance].")
def train_classifier(labels: Path, out: Path, holdout: float, columns: str | None, **settings: Any) -> None:
    """Train on LABELS: texts with a label each, as JSONL, JSON, CSV or Parquet."""
    from curation.classifier_training import labelled_texts, train_classifier

    def learn(segments: list[Path], **options: Any) -> dict[str, Any]:
        return train_classifier(labelled_texts(segments), out, holdout=holdout, **options)

    digest = _train(learn, labels, "labels", columns, settings, _show_classifier)
    click.echo(f"{digest}; see {out}", err=True)


@classifier.command("evaluate")
@click.argument("folder", type=FOLDER)
@click.argument("labels", type=FILE)
@click.option("--columns", help='JSON map of the file\'s column names to ours: {"句子":"text"}.')
def evaluate_classifier(folder: Path, labels: Path, columns: str | None) -> None:
    """Measure the classifier in FOLDER on LABELS that it was not trained on; prints JSON."""
    from curation.classifier import evaluate
    from curation.classifier_training import labelled_texts

    _evaluate(lambda segments: evaluate(folder, labelled_texts(segments)), labels, "labels", columns)


@click.group()
def smoother() -> None:
    """Smoothing learned from pairs of spoken and written text."""


@smoother.command("train")
@click.argument("pairs", type=FILE)
@click.option("--out", required=True, type=FOLDER, help="Folder for the smoother; new or empty.")
@click.option("--holdout", default=0.1, show_default=True, help="Share of the pairs kept back to measure on.")
@click.option("--columns", help='JSON map of the file\'s column names to ours: {"口语":"spoken"}.')
@click.option("--epochs", type=int, help="Passes over the examples [14, more where pairs are few].")
@click.option("--inputs", type=int, help="Size of what is known of a character [48].")
@click.option("--units", type=int, help="Units of the network in each direction [48].")
@click.option("--seed", type=int, help="Of the first weights, the order and the made slips [0].")
def train_smoother(pairs: Path, out: Path, holdout: float, columns: str | None, **settings: Any) -> None:
    """Train on PAIRS: spoken and written text, as JSONL, JSON, CSV or Parquet."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small: threads would only wait for each other
    from curation.smoother_training import spoken_and_written, train_smoother

    def learn(segments: list[Path], **options: Any) -> dict[str, Any]:
        return train_smoother(spoken_and_written(segments), out, holdout=holdout, **options)

    digest = _train(learn, pairs, "pairs", columns, settings, _show_smoother)
    click.echo(f"{digest}; see {out}", err=True)


@smoother.command("evaluate")
@click.argument("folder", type=FOLDER)
@click.argument("pairs", type=FILE)
@click.option("--columns", help='JSON map of the file\'s column names to ours: {"口语":"spoken"}.')
def evaluate_smoother(folder: Path, pairs: Path, columns: str | None) -> None:
    """Measure the smoother in FOLDER on PAIRS that it was not trained on; prints JSON."""
    from curation.smoother_training import evaluate, spoken_and_written

    _evaluate(lambda segments: evaluate(folder, spoken_and_written(segments)), pairs, "pairs", columns)


def _train(
    learn: Callable[..., dict[str, Any]],
    path: Path,
    purpose: str,
    columns: str | None,
    settings: dict[str, Any],
    show: Callable[[dict[str, Any], int], None],
) -> str:
    """Learns from a file of examples, with progress, and tells how good it is; returns the filter's digest."""
    given = {name: value for name, value in settings.items() if value is not None}
    with told_in_one_line(), bars() as shown, _ingested(path, columns, purpose) as (segments, quarantined):
        tasks = {stage: shown.add_task(stage, total=None, start=False) for stage in ("read", "train", "measure")}

        def tell(stage: str, done: int, total: int) -> None:
            shown.start_task(tasks[stage])
            shown.update(tasks[stage], completed=done, total=total or None)

        described = learn(segments, hyperparameters=given, on_progress=tell)
    show(described["metrics"], quarantined)
    digest: str = described["digest"]
    return digest


def _evaluate(measured: Callable[[list[Path]], dict[str, Any]], path: Path, purpose: str, columns: str | None) -> None:
    """Prints what is measured on a file of examples, as JSON."""
    import orjson

    with told_in_one_line(), _ingested(path, columns, purpose) as (segments, quarantined):
        metrics = measured(segments)
    click.echo(orjson.dumps({**metrics, "quarantined": quarantined}, option=orjson.OPT_INDENT_2).decode())


@contextmanager
def _ingested(path: Path, columns: str | None, purpose: str) -> Iterator[tuple[list[Path], int]]:
    """The segments of a file of labels or pairs, and how many records were no good."""
    from curation.formats import ingest
    from curation.segments import file_sha256

    with tempfile.TemporaryDirectory() as folder:
        given = json_map("--columns", columns)
        made = ingest(path, Path(folder), sha256=file_sha256(path), purpose=purpose, columns=given)
        yield [segment.path for segment in made.segments], made.quarantined


def _show_classifier(metrics: dict[str, Any], quarantined: int) -> None:
    """A short table of a new classifier's figures."""
    from rich.console import Console
    from rich.table import Table

    counts = metrics["counts"]
    table = Table("label", "precision", "recall", "F1", "held out", "threshold")
    for label, one in metrics["per_label"].items():
        figures = [f"{one[name]:.3f}" for name in ("precision", "recall", "f1")]
        table.add_row(label, *figures, str(one["support"]), f"{metrics['recommended_threshold'][label]:.2f}")
    console = Console(stderr=True)
    console.print(table)
    console.print(
        f"accuracy {metrics['accuracy']:.3f}, macro-F1 {metrics['macro_f1']:.3f}; {counts['records']} records: "
        f"{counts['train']} texts trained on, {counts['holdout']} held out, {counts['duplicates']} duplicates, "
        f"{counts['conflicts']} with several labels, {counts['empty']} empty, {quarantined} quarantined"
    )


def _show_smoother(metrics: dict[str, Any], quarantined: int) -> None:
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
