"""What is kept how long: blobs that nothing names go from the store, what nobody used for days from this machine."""

import logging
import secrets
import shutil
import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.collection import DAY_S, collect
from app.db import insert, reading, writing
from app.models import FINAL, File, Job, Work, new_id
from app.settings import get_settings
from worker.leases import Lease, finish

LAID_OUT = ("versions", "models", "filters", "vectors")
"""Folders of the data folder whose own are made again where they are missing; each bears the time of its last use."""
log = logging.getLogger(__name__)


def plan_collection(session: Session) -> None:
    """Adds today's look at the store, once there is something that is older than a day."""
    if not get_settings().collect_store:
        return
    today = int(time.time() / DAY_S)
    if session.scalar(select(Work.id).where(Work.kind == "collect", Work.ordinal >= today)) is not None:
        return
    if session.scalar(select(File.id).where(File.created_at < time.time() - DAY_S).limit(1)) is None:
        return
    row = {"id": new_id("work"), "kind": "collect", "subject": "store", "ordinal": today, "queue": "curate"}
    session.execute(insert(Work).values(**row).on_conflict_do_nothing())


def collect_store(lease: Lease) -> None:
    """Sets aside what nothing names, and removes what was set aside a week ago."""
    found = collect()
    log.info(
        "the store keeps %d blobs; %d (%d bytes) set aside, %d taken back, %d (%d bytes) removed",
        found.kept, found.set_aside, found.set_aside_bytes, found.taken_back, found.removed, found.removed_bytes,
    )  # fmt: skip
    with writing() as session:
        finish(session, lease, {"removed_bytes": found.removed_bytes})


def forget_unused() -> None:
    """Removes from this machine what nobody used for a while: jobs that ended, what was laid out from the store."""
    settings = get_settings()
    long_ago = time.time() - settings.keep_runs_days * DAY_S
    runs = settings.runs_dir
    there = {path.name.partition(".")[0] for path in runs.glob("ftjob-*")}
    with reading() as session:
        jobs = session.execute(select(Job.id, Job.status, Job.finished_at).where(Job.id.in_(there))).all()
    for job_id, status, finished_at in jobs:
        if status in FINAL and finished_at is not None and finished_at < long_ago:
            log.info("removing the run directory of %s", job_id)
            for path in runs.glob(f"{job_id}*"):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    needed = _named_by(runs, [job_id for job_id, status, _ in jobs if status not in FINAL])
    for name in LAID_OUT:
        root = settings.data_dir.absolute() / name
        for folder in root.iterdir() if root.is_dir() else ():
            if folder.stat().st_mtime < long_ago and str(folder) not in needed:
                log.info("removing %s/%s, which nobody used lately", name, folder.name)
                _remove(folder)


def _named_by(runs: Path, job_ids: list[str]) -> str:
    """What runs that are not over say of the folders that they read."""
    paths = [path for job_id in job_ids for path in (runs / f"{job_id}.request.json", runs / job_id / "vectors.json")]
    return "\n".join(path.read_text("utf-8") for path in paths if path.exists())


def _remove(folder: Path) -> None:
    """Takes a folder's name from it first, so that nobody takes what is left for the whole."""
    forgotten = folder.with_name(f".{secrets.token_hex(6)}.forgotten")
    try:
        folder.rename(forgotten)
    except OSError:  # somebody else was first
        return
    shutil.rmtree(forgotten, ignore_errors=True)
