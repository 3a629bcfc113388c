"""Training of classifiers and smoothers: in a child process, since native code may crash and must be stoppable.

The child (`python -m worker.learning REQUEST`) reads segments of labels or pairs, writes the artefact, and puts a
user's mistake into `error`. It sees no database. Killed anywhere, the work is done again and gives the same artefact.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import writing
from app.filters.artefacts import pack
from app.filters.repository import SMOOTHER
from app.models import File, Json, LearnedFilter, RawSegment, Work
from app.process import kill_group, start
from app.queue import add_nudge
from app.store import get_store
from curation.errors import CurationError
from curation.segments import write_json
from worker.curating import CannotBeDoneError, scratch
from worker.leases import Lease, LeaseLostError, finish, give_back

POLL_S = 0.2
FEW_HELD_OUT, FEW_PAIRS_HELD_OUT = 30, 100
MANY = 0.05
"""Share of what is learned that may be wrong before users are told."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""A smoother's matrices are small: threads would only wait for each other."""


def learn(lease: Lease, lost: threading.Event) -> None:
    """Trains a filter from its file, once that is processed, and publishes it."""
    begun = begin(lease)
    if begun is None:
        return
    row, segments = begun
    store = get_store()
    with scratch() as folder:
        paths = [str(store.path(sha256)) for sha256 in segments]
        described = _train(folder, {"kind": row.kind, "segments": paths, **row.request}, lost)
        blob = pack(folder / "artefact", folder)
    metrics = described["metrics"]
    publish(lease, described["digest"], blob.sha256, metrics, _warnings(row.kind, metrics))


def begin(lease: Lease) -> tuple[LearnedFilter, list[str]] | None:
    """The filter and the blobs of its records; None where its file is still processed, which announces this again.

    Raises:
        CannotBeDoneError: the file could not be read.
    """
    with writing() as session:
        row = session.get_one(LearnedFilter, lease.subject)
        file = session.get_one(File, row.file_id)
        if file.status == "error":
            raise CannotBeDoneError(f"file {file.id} could not be read: {file.status_details}")
        if file.status == "processed":
            row.status = "running"
        mine = select(RawSegment.sha256).where(RawSegment.file_id == file.id)
        segments = session.scalars(mine.order_by(RawSegment.ordinal)).all()
    if file.status == "processed":
        return row, list(segments)
    give_back(lease, nudge=False)
    with writing() as session:
        if session.get_one(File, file.id).status in ("processed", "error"):  # it ended just before
            add_nudge(session, session.get_one(Work, lease.work_id))
    return None


def publish(lease: Lease, digest: str, artefact_sha256: str, metrics: Json, warnings: list[str]) -> None:
    """The filter has learned, and can be asked."""
    crash_point("learn_artefact_stored")
    with writing() as session:
        finish(session, lease, {"digest": digest})
        row = session.get_one(LearnedFilter, lease.subject)
        row.status, row.digest, row.artefact_sha256 = "succeeded", digest, artefact_sha256
        row.metrics, row.warnings, row.finished_at = metrics, warnings, time.time()
        crash_point("learn_before_commit")
    crash_point("learn_committed")


def run_child(child: "subprocess.Popen[bytes]", lost: threading.Event) -> int:
    """Waits for the process that trains; returns its exit status.

    Raises:
        LeaseLostError: somebody else does it now, or it was cancelled; the process is gone.
    """
    try:
        while child.poll() is None:
            if lost.wait(POLL_S):
                raise LeaseLostError("the training was cancelled or taken over")
    finally:
        kill_group(child)
        status = child.wait()
    return status


def fail_filter(session: Session, lease: Lease, error: str) -> None:
    """The filter cannot be trained."""
    row = session.get(LearnedFilter, lease.subject)
    if row is not None and row.status in ("queued", "running"):
        row.status = "failed"
        row.error = error
        row.finished_at = time.time()


def _train(folder: Path, request: dict[str, Any], lost: threading.Event) -> dict[str, Any]:
    """Trains in a child and waits for it.

    Raises:
        CannotBeDoneError: the file's records or the settings are no good.
        LeaseLostError: somebody else does it now, or it was cancelled; the child is gone.
    """
    write_json({**request, "out": str(folder / "artefact")}, folder / "request.json")
    command = [sys.executable, "-m", "worker.learning", str(folder / "request.json")]
    status = run_child(start(command, env={**os.environ, **ONE_THREAD}), lost)
    if (folder / "error").exists():
        raise CannotBeDoneError((folder / "error").read_text("utf-8"))
    if status != 0:
        raise ChildProcessError(f"the training process ended with status {status}")
    described: dict[str, Any] = json.loads((folder / "described.json").read_bytes())
    return described


def _warnings(kind: str, metrics: dict[str, Any]) -> list[str]:
    """What users should know before they trust the numbers."""
    if kind == SMOOTHER:
        return _warnings_of_smoother(metrics)
    found = []
    if few := sorted(label for label, one in metrics["per_label"].items() if one["support"] < FEW_HELD_OUT):
        found.append(f"fewer than {FEW_HELD_OUT} texts held out of {', '.join(few[:5])}: its figures are rough")
    counts = metrics["counts"]
    if counts["conflicts"]:
        found.append(
            f"{counts['conflicts']} texts have more than one label; {counts['left_out_for_conflict']} left out"
        )
    if metrics["contradicted"] >= MANY:
        found.append(
            f"of {metrics['contradicted']:.1%} of the texts held out it is sure that they have another label than they "
            "bear: labels may be wrong"
        )
    return found


def _warnings_of_smoother(metrics: dict[str, Any]) -> list[str]:
    found, counts = [], metrics["counts"]
    if counts["holdout"] < FEW_PAIRS_HELD_OUT:
        found.append(f"fewer than {FEW_PAIRS_HELD_OUT} pairs held out: the figures are rough")
    if counts["conflicts"]:
        found.append(f"{counts['conflicts']} pairs write down otherwise what another one has: the first one counts")
    if counts["unlike"] >= MANY * counts["records"]:
        share = counts["unlike"] / counts["records"]
        found.append(
            f"the written text of {share:.1%} of the pairs is mostly not what was said: do lines belong together?"
        )
    if metrics["f05"] <= metrics["rules_alone"]["f05"]:
        found.append("it smooths the pairs held out no better than the rules alone: train it on more pairs")
    return found


def _main(request_path: Path) -> None:
    request = json.loads(request_path.read_bytes())
    settings = {"holdout": request["holdout"], "hyperparameters": request["hyperparameters"]}
    segments, out = list(map(Path, request["segments"])), Path(request["out"])
    try:
        if request["kind"] == SMOOTHER:
            from curation.smoother_training import spoken_and_written, train_smoother

            described = train_smoother(spoken_and_written(segments), out, **settings)
        else:
            from curation.classifier_training import labelled_texts, train_classifier, with_labels

            records = with_labels(labelled_texts(segments), request.get("labels", []))
            described = train_classifier(records, out, **settings)
        write_json(described, request_path.with_name("described.json"))
    except CurationError as error:
        request_path.with_name("error").write_text(str(error), "utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
