"""`python -m trainer.rank RUN_DIR`: one process of a run, started by the launcher."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.config import ConfigError, load_config
from trainer.records import TrainingError, event, write_json
from trainer.run_lock import RunLock, die_with_launcher
from trainer.vectors import vectorise
from trainer.version import open_version

EXIT_SUCCEEDED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 75


def main(run_dir: Path) -> int:
    """Trains; a reason for failing goes to `result.json`."""
    die_with_launcher()
    RunLock(run_dir).join()
    import torch
    from transformers.utils import logging as transformers_logging

    from trainer.loop import INTERRUPTED, train

    transformers_logging.disable_progress_bar()
    cores = os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        config = load_config(run_dir / "config.json")
        chat = load_chat_tokenizer(str(run_dir / "tokenizer"))
        vectors = vectorise(open_version(config.data.version), chat, config)
        outcome = train(config, vectors, chat, run_dir)
    except (TrainingError, ConfigError, OSError) as error:
        _tell(run_dir, str(error))
        return EXIT_FAILED
    return EXIT_INTERRUPTED if outcome == INTERRUPTED else EXIT_SUCCEEDED


def _tell(run_dir: Path, reason: str) -> None:
    """Says why the run failed; the first process to know tells it, since its end is the end of the others."""
    if not (run_dir / "result.json").exists():
        with suppress(OSError):
            write_json(run_dir / "result.json", {"status": "failed", "error": reason})
            event(run_dir, reason, level="error")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    sys.exit(main(Path(sys.argv[1])))
