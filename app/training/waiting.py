"""Jobs whose version is still being made of their file: what becomes of them when it is there, or will never be."""

import time

from sqlalchemy.orm import Session

from app.models import Job, JobEvent, Version
from app.queue import add_work
from app.training.repository import waiting_for


def queue_job(session: Session, job: Job) -> None:
    """Lets a job whose version is there be trained."""
    job.status = "queued"
    session.add(JobEvent(job_id=job.id, message="Job queued."))
    add_work(session, "train", job.id, queue="train")


def version_ended(session: Session, version: Version) -> None:
    """Queues the jobs that waited for a version, or lets them fail with it; in the transaction that ends it."""
    for job in waiting_for(session, version.id):
        if version.status == "succeeded":
            queue_job(session, job)
            continue
        reason = f"training_file: no version could be made of it: {version.error or version.status}"
        job.status, job.finished_at = "failed", time.time()
        job.error = {"code": "invalid_training_file", "message": reason, "param": "training_file"}
        session.add(JobEvent(job_id=job.id, level="error", message=reason))
