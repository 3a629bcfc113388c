"""`python -m worker --queues curate,train`: one worker process."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a worker until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--queues", default="curate,train", help="queues to serve, separated by commas (curate, train)")
    parser.add_argument("--gpus", help="GPUs that its jobs may use, as 0,1; none: the CPU; default: all it finds")
    options = parser.parse_args(arguments)
    if options.gpus is not None:  # before anything looks for them
        os.environ["CUDA_VISIBLE_DEVICES"] = "" if options.gpus == "none" else options.gpus
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)

    from worker.celery_app import celery_app

    celery_app.worker_main(
        [
            "worker",
            "--pool=solo",
            f"--queues={options.queues}",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
