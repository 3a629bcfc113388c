"""The command `talkmill`: errors go to stderr in one clear line, with a non-zero exit."""

import logging
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from app import cli_curation, cli_filters


def fail(message: str) -> NoReturn:
    """Ends the command with one line for the user."""
    raise click.ClickException(message)


class OneLineErrors(click.Group):
    """Tells a mistake in the arguments, or a part that is away, in one line like every other."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if isinstance(error, click.exceptions.NoArgsIsHelpError):
                raise
            click.echo(f"Error: {error.format_message()} (see --help)", err=True)
            raise click.exceptions.Exit(error.exit_code) from None
        except Exception as error:
            if (message := _away(error)) is None:
                raise
            fail(message)


def _away(error: Exception) -> str | None:
    """What to say when the database or the store cannot be used.

    Their libraries are slow to load: an error is one of theirs only where they are loaded already.
    """
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import OperationalError, ProgrammingError

        if isinstance(error, OperationalError | ProgrammingError):
            reason = str(error.orig).partition("\n")[0]
            return f"the database cannot be used ({reason}): see TALKMILL_DATABASE_URL, or run `talkmill migrate`"
    if "app.store" in sys.modules:
        from app.store import StoreUnavailableError

        if isinstance(error, StoreUnavailableError):
            return f"{error}: see TALKMILL_STORE_URL and the AWS_ variables"
    return None


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="talkmill")
def main() -> None:
    """Curate business dialogues into immutable, explained dataset versions, and fine-tune on exactly those."""


@main.command()
@click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for everything the stack keeps.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--workers",
    default=min(2, os.cpu_count() or 1),
    show_default="one a core, at most 2",
    type=click.IntRange(min=1),
    help="Curation workers.",
)
def up(data_dir: Path | None, host: str, port: int, workers: int) -> None:
    """Run the whole stack on this machine until Ctrl-C."""
    from app.settings import get_settings
    from app.stack import Stack, StackError, run_stack

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if data_dir is not None:
        os.environ["TALKMILL_DATA_DIR"] = str(data_dir.absolute())

    def announce(stack: Stack) -> None:
        click.echo(f"Talkmill answers at {stack.url} (its API is described at {stack.url}/docs).")
        click.echo(f"The admin key lies in {stack.key_path}. Ctrl-C stops everything.")

    try:
        run_stack(get_settings(), host, port, workers, announce)
    except StackError as error:
        fail(str(error))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
def serve(host: str, port: int) -> None:
    """Run the API alone (production: behind your own proxy)."""
    import uvicorn

    uvicorn.run("app.main:app", host=host, port=port, log_level="info", access_log=False, timeout_graceful_shutdown=5)


@main.command()
@click.option("--queues", default="curate,train", show_default=True, help="Queues to serve, separated by commas.")
@click.option("--gpus", help="GPUs that its training jobs may use, as 0,1; none: the CPU.  [default: all it finds]")
def worker(queues: str, gpus: str | None) -> None:
    """Run one background worker (start as many as wanted); it does one piece of work, one training job, at a time."""
    if gpus is not None and not re.fullmatch(r"none|[0-9]+(,[0-9]+)*", gpus):
        raise click.BadParameter("numbers of GPUs separated by commas, as 0,1, or none", param_hint="--gpus")
    limited = [] if gpus is None else ["--gpus", gpus]
    os.execv(sys.executable, [sys.executable, "-m", "worker", "--queues", queues, *limited])


@main.command()
@click.option("--check", is_flag=True, help="Only check, on an empty database, that migrations and models agree.")
def migrate(check: bool) -> None:
    """Bring the database's tables up to date."""
    from app import migrations
    from app.settings import get_settings

    if not check:
        Path(get_settings().data_dir).mkdir(parents=True, exist_ok=True)
        migrations.upgrade()
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TALKMILL_DATA_DIR"] = folder
        os.environ.pop("TALKMILL_DATABASE_URL", None)
        get_settings.cache_clear()
        differences = migrations.check()
    if differences:
        fail("migrations and models differ: " + "; ".join(map(str, differences)))
    click.echo("migrations and models agree")


@main.command("collect")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def collect_store(*, dry_run: bool) -> None:
    """Clear the store of what nothing names any more, as workers do once a day.

    A blob is set aside a day after it was stored, from where it comes back when it is asked for, and is removed a week
    after that.
    """
    from app.collection import collect

    try:
        found = collect(dry_run=dry_run)
    except FileNotFoundError as error:
        fail(f"{error}: a version's manifest is missing, so what it needs is not known; nothing was done")
    done = "would be " if dry_run else ""
    click.echo(f"{found.kept:,} blobs stay; {found.set_aside:,} ({found.set_aside_bytes:,} bytes) {done}set aside")
    click.echo(
        f"{found.taken_back:,} {done}taken back; {found.removed:,} ({found.removed_bytes:,} bytes) {done}removed"
    )


@main.group()
def keys() -> None:
    """API keys."""


@keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--scopes", required=True, help="Separated by commas: read, curate, train, admin.")
def create(name: str, scopes: str) -> None:
    """Make a key and print it, once."""
    from app.audit.log import record_command
    from app.auth import SCOPES, create_key
    from app.db import writing

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    if not wanted or set(wanted) - set(SCOPES):
        fail(f"--scopes takes any of {', '.join(sorted(SCOPES))}, separated by commas")
    with writing() as session:
        key, token = create_key(session, name, wanted)
        record_command(session, "talkmill keys create", key.id)
    click.echo(token)


@main.group()
def models() -> None:
    """Base models that jobs may start from."""


@models.command("add")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="What jobs give as `model`; default: the folder's name.")
@click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the stack, as given to `talkmill up`.",
)
def add_model(folder: Path, name: str | None, data_dir: Path | None) -> None:
    """Register a local base: a Hugging Face folder with config, safetensors and tokenizer, no code of its own."""
    from app.training.bases import BaseError, register

    _use_data_folder(data_dir)
    try:
        model, facts = register(folder, name, lambda doing: click.echo(f"{doing} …", err=True))
    except BaseError as error:
        fail(str(error))
    size = sum(file["bytes"] for file in model.files)
    click.echo(
        f"{model.id}: {facts['class']}, {facts['parameters']:,} parameters, {facts['vocab_size']:,} tokens, "
        f"{facts['max_positions']} positions, {facts['chat_template']} chat template, {size:,} bytes, {model.digest}"
    )
    if not facts["packing"]:
        click.echo("  does not keep samples of a row apart: jobs need trainer.data.packing false")
    for check in facts["architecture"]:
        click.echo(f"  {check['name']}: {'yes' if check['ok'] else 'no'} ({check['found']})")


@models.command("list")
@click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the stack, as given to `talkmill up`.",
)
def list_registered(data_dir: Path | None) -> None:
    """List the registered bases: name, bytes, digest."""
    from app.db import reading
    from app.training.repository import bases

    _use_data_folder(data_dir)
    with reading() as session:
        for model in bases(session):
            click.echo(f"{model.id}\t{sum(file['bytes'] for file in model.files)}\t{model.digest}")


def _use_data_folder(data_dir: Path | None) -> None:
    from app.settings import get_settings

    if data_dir is not None:
        os.environ["TALKMILL_DATA_DIR"] = str(data_dir)
        get_settings.cache_clear()


main.add_command(cli_curation.curate)
main.add_command(cli_filters.classifier)
main.add_command(cli_filters.smoother)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Fine-tune on a dataset version (the same as `python -m trainer`)."""
    os.execv(sys.executable, [sys.executable, "-m", "trainer", *arguments])


if __name__ == "__main__":
    main()
