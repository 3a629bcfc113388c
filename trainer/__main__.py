"""`talkmill train CONFIG.json --out RUN_DIR [--nproc N]`, the same as `python -m trainer`."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.config import ConfigError

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains; with `generate` as first argument, answers; with `score`, scores; with `inspect`, tells of a base."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    commands = {"generate": _generate, "inspect": _inspect, "score": _score}
    try:
        return commands[given[0]](given[1:]) if given and given[0] in commands else _train(given)
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE


def train_parser() -> argparse.ArgumentParser:
    """The arguments of `talkmill train`."""
    parser = argparse.ArgumentParser(
        prog="talkmill train", description="Fine-tune on a dataset version; given a run directory that exists, resume."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.json", help="settings of the run")
    parser.add_argument("--out", type=Path, metavar="RUN_DIR", help="run directory")
    parser.add_argument("--nproc", type=int, help="processes on this machine (default: run.nproc of the config)")
    parser.add_argument(
        "--show", type=int, metavar="N", help="print the first N samples, learned tokens marked, and train nothing"
    )
    return parser


def _train(given: Sequence[str]) -> int:
    options = train_parser().parse_args(given)
    if options.nproc is not None and options.nproc < 1:
        raise ConfigError("--nproc must be at least 1")
    if options.show is not None:
        if options.show < 1:
            raise ConfigError("--show must be at least 1")
        from rich.console import Console

        from trainer.data.viewer import show

        show(options.config, options.show, Console())
        return 0
    if options.out is None:
        raise ConfigError("--out RUN_DIR is missing: where the run's checkpoints and its model go")
    from trainer.launcher import launch

    return launch(options.config, options.out, options.nproc)


def _generate(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer generate", description="Answer chats, one JSON a line.")
    parser.add_argument("run_dir", type=Path, help="run directory, or a model folder")
    parser.add_argument("--checkpoint", type=Path, help="folder of one of the run's checkpoints")
    options = parser.parse_args(given)
    from trainer.generate import main as serve

    serve(options.run_dir, options.checkpoint)
    return 0


def _score(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer score", description="Score conversations by a reward model, one JSON a line."
    )
    parser.add_argument("run_dir", type=Path, help="run directory, or a model folder")
    options = parser.parse_args(given)
    from trainer.reward.scoring import main as serve

    serve(options.run_dir)
    return 0


def _inspect(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer inspect", description="Open a base model; facts as JSON.")
    parser.add_argument("folder", type=Path, help="Hugging Face folder")
    options = parser.parse_args(given)
    from trainer.structure.inspection import inspect

    print(json.dumps(inspect(options.folder), ensure_ascii=False))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
