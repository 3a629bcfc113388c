"""The page of the command `talkmill` and of make's targets, from their own help.

`talkmill train` hands its arguments to the trainer, which has a parser of its own.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from app.cli import main
from docs.generator.markdown import code, table
from trainer.__main__ import train_parser

MAKEFILE = Path(__file__).parents[2] / "Makefile"
TARGET = re.compile(r"^([a-z0-9-]+):.*?  ## (.+)$", re.MULTILINE)
INTRODUCTION = """# Commands

`.venv/bin/talkmill`, after `make setup`. Every command has `--help`; errors are one line on stderr, with a non-zero
exit.
"""


def page() -> str:
    """Every command with its arguments and options."""
    commands = _commands(click.Context(main, info_name="talkmill"))
    targets = [(code(f"make {name}"), does) for name, does in TARGET.findall(MAKEFILE.read_text("utf-8"))]
    return INTRODUCTION + "".join(map(_described, commands)) + "\n## make\n\n" + table(("target", "does"), targets)


def _commands(context: click.Context) -> Iterator[click.Context]:
    """The commands below a context that do something themselves."""
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from _commands(click.Context(command, parent=context, info_name=name))
    else:
        yield context


def _described(context: click.Context) -> str:
    command, text = context.command, context.command.help or ""
    if context.command_path == "talkmill train":
        parser = train_parser()
        usage = " ".join(parser.format_usage().split()[3:])
        return _section(context.command_path, usage, text, [_argument(one) for one in parser._actions[1:]])
    records = [
        record
        for one in command.get_params(context)
        if isinstance(one, click.Option) and "--help" not in one.opts and (record := one.get_help_record(context))
    ]
    return _section(context.command_path, " ".join(command.collect_usage_pieces(context)), text, records)


def _argument(action: argparse.Action) -> tuple[str, str]:
    metavar = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    required = " [required]" if action.required and action.option_strings else ""
    return " ".join([", ".join(action.option_strings), str(metavar)]).strip(), f"{action.help}{required}"


def _section(path: str, usage: str, does: str, options: Sequence[tuple[str, str]]) -> str:
    rows = [(code(names), " ".join(meaning.split())) for names, meaning in options]
    shown = "\n" + table(("option", "meaning"), rows) if rows else ""
    return f"\n## {path}\n\n    {path} {usage}\n\n{does}\n{shown}"
