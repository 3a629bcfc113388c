"""Jobs whose versions are still being made of their files: what becomes of them once they are, or never will be."""

import time

from sqlalchemy.orm import Session

from app.models import Job, JobEvent, Version
from app.queue import add_work
from app.training.repository import statuses_of_versions, waiting_for


def queue_if_ready(session: Session, job: Job) -> None:
    """Lets a job be trained whose versions, those to learn from and to validate on, have all succeeded."""
    if set(statuses_of_versions(session, job)) == {"succeeded"}:
        job.status = "queued"
        session.add(JobEvent(job_id=job.id, message="Job queued."))
        add_work(session, "train", job.id, queue="train")


def version_ended(session: Session, version: Version) -> None:
    """Queues the jobs that waited for a version, or lets them fail with it; in the transaction that ends it."""
    for job in waiting_for(session, version.id):
        if version.status == "succeeded":
            queue_if_ready(session, job)
            continue
        param = "training_file" if job.version_id == version.id else "validation_file"
        reason = f"{param}: no version could be made of it: {version.error or version.status}"
        job.status, job.finished_at = "failed", time.time()
        job.error = {"code": f"invalid_{param}", "message": reason, "param": param}
        session.add(JobEvent(job_id=job.id, level="error", message=reason))
