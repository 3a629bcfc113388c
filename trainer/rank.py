"""`python -m trainer.rank RUN_DIR`: one process of a run, started by the launcher."""

import logging
import os
import sys
from pathlib import Path

from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.config import load_config
from trainer.data.vectors import take_over
from trainer.recovery.beacon import Beacon, read_beats
from trainer.recovery.faults import report
from trainer.run_lock import RunLock, die_with_launcher

EXIT_SUCCEEDED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 75


def main(run_dir: Path) -> int:
    """Trains; why it failed is reported to the launcher, which decides what comes of it."""
    die_with_launcher()
    RunLock(run_dir).join()
    rank = int(os.environ["RANK"])
    beacon = Beacon(run_dir, rank)
    import torch
    from transformers.utils import logging as transformers_logging

    from trainer.loop import INTERRUPTED, train

    transformers_logging.disable_progress_bar()
    cores = os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))
    try:
        config = load_config(run_dir / "config.json")
        chat = load_chat_tokenizer(str(run_dir / "tokenizer"))
        outcome = train(config, take_over(run_dir), chat, run_dir, beacon)
    except Exception as error:
        logging.exception("rank %d", rank)
        report(run_dir, rank, error, read_beats(run_dir).get(rank))
        logging.shutdown()
        os._exit(EXIT_FAILED)  # threads that wait for other ranks would hold or crash an orderly end
    return EXIT_INTERRUPTED if outcome == INTERRUPTED else EXIT_SUCCEEDED


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    sys.exit(main(Path(sys.argv[1])))
