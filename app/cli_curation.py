"""The command `talkmill curate`: curation without a server; and what commands have in common."""

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from app.filters.folder_scorer import FolderScorer
    from curation.recipe import Filter, Recipe

WRITTEN = frozenset(
    {"segments", "trace", "dropped", "tags.parquet", "manifest.json", "quarantine.parquet", "report.json"}
)
LARGE_BYTES = 16 * 2**20
"""Inputs that are several segments whatever they hold: it pays to start further processes at once."""
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def fail(message: str) -> NoReturn:
    """Ends the command with one line for the user."""
    raise click.ClickException(message)


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=FILE)
@click.option("--out", required=True, type=FOLDER, help="Folder for the version.")
@click.option("--recipe", type=FILE, help="Recipe JSON; default: the default recipe.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 512), help="Processes.")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Date that ages are counted to; default: today.")
@click.option("--speakers", help='JSON map of speaker to role or ignore: {"店小二":"assistant"}.')
@click.option("--columns", help='JSON map of the files\' column names to ours: {"session":"conversation_id"}.')
@click.option("--force", is_flag=True, help="Replace the version that lies in --out.")
def curate(
    inputs: tuple[Path, ...],
    out: Path,
    recipe: Path | None,
    workers: int,
    as_of: datetime | None,
    speakers: str | None,
    columns: str | None,
    force: bool,
) -> None:
    """Curate files without a server: same operators, same bytes."""
    from curation.processes import processes

    is_large = sum(path.stat().st_size for path in inputs) > LARGE_BYTES
    with told_in_one_line(), processes(workers, at_once=is_large) as spread, bars() as shown:
        from curation.command import curate as curate_files  # while the other processes load it too

        wanted = _read_recipe(recipe)
        maps = {"speakers": json_map("--speakers", speakers), "columns": json_map("--columns", columns)}
        _claim(out, force=force)
        reading = shown.add_task("read", total=len(inputs))
        curating = shown.add_task("curate", total=None)
        manifest = curate_files(
            inputs,
            out,
            recipe=wanted,
            spread=spread,
            as_of=_day(as_of),
            speakers=maps["speakers"],
            columns=maps["columns"],
            on_ingest=lambda done: shown.update(reading, completed=done),
            on_progress=lambda done, total: shown.update(curating, completed=done, total=total),
        )
    for warning in manifest["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    counts = manifest["counts"]
    click.echo(
        f"{counts['conversations_in']} conversations in, {counts['conversations_kept']} kept, "
        f"{counts['conversations_dropped']} dropped; digest {manifest['digest']}; see {out}",
        err=True,
    )


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """A user's mistake, or a machine that is too small, without a traceback."""
    from curation.errors import CurationError

    try:
        yield
    except CurationError as error:
        fail(str(error))
    except BrokenProcessPool:
        fail("a worker process was killed, most likely for memory: try fewer --workers")
    except OSError as error:
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")


def bars() -> "Progress":
    """Progress bars on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _read_recipe(path: Path | None) -> "Recipe":
    import orjson

    from curation.errors import CurationError, RecipeError
    from curation.recipe import filter_ids, parse_recipe, scorer_ids

    try:
        body = None if path is None else orjson.loads(path.read_bytes())
        filters = {name: _filter(Path(name)) for name in filter_ids(body)}
        scorers = {name: _scorer(Path(name)) for name in scorer_ids(body)}
        return parse_recipe(body, filters=filters, scorers=scorers)
    except orjson.JSONDecodeError as error:
        fail(f"{path} is not valid JSON: {error}")
    except RecipeError as error:
        fail(f"{path}: {error.param}: {error}")
    except CurationError as error:
        fail(f"{path}: {error}")


def _filter(folder: Path) -> "Filter":
    from curation.classifier import ClassifierRef
    from curation.smoother import KIND, SmootherRef

    return SmootherRef.at(folder) if (folder / KIND.description).is_file() else ClassifierRef.at(folder)


def _scorer(folder: Path) -> "FolderScorer":
    from app.filters.folder_scorer import FolderScorer

    return FolderScorer.at(folder)


def json_map(option: str, value: str | None) -> Mapping[str, str] | None:
    """The names that an option maps, given as a JSON object; fails in one line where it is none."""
    import orjson

    if value is None:
        return None
    try:
        read = orjson.loads(value)
    except orjson.JSONDecodeError:
        read = None
    if not isinstance(read, dict) or not all(isinstance(item, str) for item in read.values()):
        fail(f'{option} must be a JSON object of names, such as {{"a":"b"}}')
    return read


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _claim(out: Path, *, force: bool) -> None:
    """Makes the folder ready: new, empty, of a run that was broken off, or given up by --force."""
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()}
    ours = {name for name in names if name in WRITTEN or name.startswith((".ingest-", ".report", ".manifest"))}
    if names - ours:
        fail(f"{out} holds other things than a version ({min(names - ours)}): take a new folder")
    if "report.json" in names and not force:
        fail(f"{out} holds a version already: take a new folder, or replace it with --force")
    for name in ours:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
