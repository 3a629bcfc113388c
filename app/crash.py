"""Named points at which a test kills a process, to show that nothing is lost there.

Only with `TALKMILL_TEST_MODE=1`, and only at the points that `TALKMILL_CRASH_AT` names (separated by commas): the first
process of a data folder that comes to one kills itself as `kill -9` would. It leaves a file in `crashed/`, so that
whoever does the work again gets through; a test that deletes the file arms the point once more.
"""

import os
import signal
from typing import Literal, get_args

from app.settings import get_settings

Point = Literal[
    "upload_blob_stored",
    "request_committed",
    "blob_before_publishing",
    "work_claimed",
    "after_segments_written",
    "after_segment_rename",
    "ingest_before_commit",
    "ingest_committed",
    "plan_before_commit",
    "plan_committed",
    "curate_results_stored",
    "curate_before_commit",
    "curate_committed",
    "join_decisions_stored",
    "join_before_commit",
    "join_committed",
    "close_manifest_stored",
    "close_before_commit",
    "close_committed",
    "learn_artefact_stored",
    "learn_before_commit",
    "learn_committed",
    "nudges_sent",
    "sweep_before_commit",
    "sweep_committed",
    "train_config_written",
    "train_checkpoint_seen",
    "train_model_stored",
    "train_committed",
]
POINTS: tuple[Point, ...] = get_args(Point)


def crash_point(name: Point) -> None:
    """Ends this process here, the first time, where a test asks for it."""
    if os.environ.get("TALKMILL_TEST_MODE") != "1":
        return
    armed = set(os.environ.get("TALKMILL_CRASH_AT", "").split(",")) - {""}
    if unknown := armed.difference(POINTS):
        raise ValueError(f"TALKMILL_CRASH_AT: there is no point {min(unknown)}")
    if name not in armed:
        return
    crashed = get_settings().data_dir / "crashed"
    crashed.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(crashed / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
