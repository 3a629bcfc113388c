"""What a run leaves to its users: the model of its last step and of its best, adapter, samples, a table of metrics.

Samples and losses of an evaluation are offered as soon as it is done, the rest once the run has succeeded.
"""

import csv
import io
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import orjson
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import reading, writing
from app.models import File, Job, JobEvaluation, JobEvent, JobFile, JobMetric, Json, new_id
from app.store import BlobRef, get_store
from worker.leases import Lease, finish

EVALUATION = "evaluation"
BESIDE = ("best", "adapter", EVALUATION)
"""Folders of the run directory that are offered beside the model's, under their own names."""
RESULTS = ("step", "train_loss", "valid_loss", "learning_rate", "grad_norm", "tokens")


def publish(lease: Lease, job: Job, run_dir: Path) -> None:
    """Stores what the run left and lets the job succeed.

    Raises:
        LeaseLostError: the job belongs to somebody else.
    """
    result = orjson.loads((run_dir / "result.json").read_bytes())
    blobs = _stored(run_dir / "model", "")
    for name in BESIDE:
        blobs |= _stored(run_dir / name, f"{name}/")
    if result.get("best") and not (run_dir / "best").is_dir():  # the last step is the best one
        blobs |= {f"best/{name}": blob for name, blob in _stored(run_dir / "model", "").items()}
    table = get_store().put(io.BytesIO(_results(job.id).encode()))
    crash_point("train_model_stored")
    with writing() as session:
        finish(session, lease, {"status": "succeeded"})
        job = session.get_one(Job, job.id)
        offer(session, job.id, blobs)
        job.result_files = [_add_result_file(session, job, table)]
        job.status = "succeeded"
        job.fine_tuned_model = f"ft:{job.model}:{job.request.get('suffix') or 'talkmill'}:{job.id[-8:]}"
        job.trained_tokens = result.get("tokens")
        job.finished_at = time.time()
        session.add(JobEvent(job_id=job.id, message=f"Job succeeded: the model is {job.fine_tuned_model}."))
    crash_point("train_committed")


def stored_evaluations(run_dir: Path, steps: Iterable[int]) -> dict[str, BlobRef]:
    """The blobs of what the evaluations after these steps wrote, by name."""
    store = get_store()
    paths = [path for step in steps for path in sorted((run_dir / EVALUATION).glob(f"*-step-{step}.jsonl"))]
    return {f"{EVALUATION}/{path.name}": store.put_file(path) for path in paths}


def offer(session: Session, job_id: str, blobs: Mapping[str, BlobRef]) -> None:
    """Adds files to those that a job offers, in place of those of the same names."""
    for name, blob in blobs.items():
        session.merge(JobFile(job_id=job_id, name=name, sha256=blob.sha256, bytes=blob.bytes))


def forget_evaluations(session: Session, job_id: str, last_step: int) -> None:
    """Undoes the evaluations behind a step, to which the run went back."""
    session.execute(delete(JobEvaluation).where(JobEvaluation.job_id == job_id, JobEvaluation.step > last_step))
    offered = select(JobFile).where(JobFile.job_id == job_id, JobFile.name.startswith(f"{EVALUATION}/"))
    for file in session.scalars(offered):
        step = re.search(r"-step-(\d+)\.jsonl$", file.name)
        if step is not None and int(step[1]) > last_step:
            session.delete(file)


def _stored(folder: Path, prefix: str) -> dict[str, BlobRef]:
    """The blobs of a folder's files, by name; none where there is no such folder."""
    store = get_store()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{prefix}{path.relative_to(folder)}": store.put_file(path) for path in paths}


def _results(job_id: str) -> str:
    """A CSV of the run's steps, with the names that OpenAI gives them."""
    with reading() as session:
        steps = _by_step(session, JobMetric, job_id)
        losses = {row["step"]: row.get("validation_loss") for row in _by_step(session, JobEvaluation, job_id)}
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(RESULTS)
    for line in steps:
        rows.writerow(
            [line["step"], line["loss"], losses.get(line["step"]), line["lr"], line["grad_norm"], line["tokens"]]
        )
    return text.getvalue()


def _by_step(session: Session, table: type[JobMetric] | type[JobEvaluation], job_id: str) -> Sequence[Json]:
    return session.scalars(select(table.data).where(table.job_id == job_id).order_by(table.step)).all()


def _add_result_file(session: Session, job: Job, table: BlobRef) -> str:
    file = File(
        id=new_id("file"), purpose="fine-tune-results", filename=f"{job.id}-step_metrics.csv", bytes=table.bytes,
        sha256=table.sha256, status="processed", detection={}, counts={}, warnings=[],
    )  # fmt: skip
    session.add(file)
    return file.id
