"""The rules of learned filters: what one can learn from, when it can be asked, when it can go; and classifiers."""

import time
from typing import Any

from sqlalchemy.orm import Session

from app.errors import Conflict, NotFound, Unprocessable
from app.files.repository import get_file
from app.filters import repository
from app.filters.schemas import ClassifierObject, DeletedFilter, NewClassifier, NewLabels
from app.models import FINAL, File, Json, LearnedFilter, new_id
from app.queue import add_work

LEARNING = {
    repository.CLASSIFIER: ("clf", "learn", "curate"),
    repository.SMOOTHER: ("smo", "learn", "curate"),
    repository.REWARD_MODEL: ("rm", "learn_reward", "train"),
}
"""By kind: how its ids begin, the kind of work that trains it, and that work's queue."""
MAX_ADDED = 50_000
"""Labels beside a file; they are kept in the database."""


def create_classifier(session: Session, body: NewClassifier) -> LearnedFilter:
    """Records a classifier and its training.

    Raises:
        Unprocessable: no such file, one that holds no labels, or settings out of bounds; `param` names which.
    """
    from curation.classifier_training import read_hyperparameters
    from curation.errors import CurationError

    file = file_to_learn(session, body.file, "labels")
    try:
        settings = read_hyperparameters(body.hyperparameters)
    except CurationError as error:
        raise Unprocessable(f"hyperparameters.{error}", param="hyperparameters") from None
    request = {"holdout": body.holdout, "hyperparameters": settings.model_dump()}
    return queue(session, repository.CLASSIFIER, body.name, file.id, request)


def queue(session: Session, kind: str, name: str, file_id: str, request: Json) -> LearnedFilter:
    """Records a filter and its training."""
    prefix, work, lane = LEARNING[kind]
    row = LearnedFilter(
        id=new_id(prefix), kind=kind, name=name, file_id=file_id, status="queued", metrics={}, warnings=[],
        request=request,
    )  # fmt: skip
    session.add(row)
    session.flush()
    add_work(session, work, row.id, queue=lane)
    session.flush()
    return row


def add_labels(session: Session, classifier_id: str, body: NewLabels) -> LearnedFilter:
    """Records the next classifier: trained from the labels of this one and further ones, its settings kept.

    Raises:
        Conflict: this one's training was cancelled or failed.
        Unprocessable: more further labels than MAX_ADDED, over all parents.
    """
    parent = repository.get_filter(session, repository.CLASSIFIER, classifier_id)
    if parent.status in ("failed", "cancelled"):
        detail = f"the classifier has {parent.status}: train one from its file first"
        raise Conflict(detail, code="not_ready", permanent=True)
    added = {**dict(parent.request.get("labels", [])), **{one.text: one.label for one in body.labels}}
    if len(added) > MAX_ADDED:
        raise Unprocessable(f"labels: more than {MAX_ADDED:,} beside the file: upload them as a file", param="labels")
    request = {**parent.request, "parent": parent.id, "labels": sorted(added.items())}
    return queue(session, repository.CLASSIFIER, body.name or parent.name, parent.file_id, request)


def delete_filter(session: Session, row: LearnedFilter) -> DeletedFilter:
    """Takes a filter away that nothing needs.

    Raises:
        Conflict: a version's recipe or another classifier names it, or it is still being trained.
    """
    session.refresh(row, with_for_update=True)
    what = repository.called(row.kind)
    if row.status not in FINAL:
        raise Conflict(f"the {what} is {row.status}: cancel it first", code="still_running")
    if users := [*repository.versions_with(session, row.id), *repository.children_of(session, row.id)]:
        raise Conflict(f"the {what} is used by {', '.join(users)}", code="filter_in_use", permanent=True)
    session.delete(row)
    return DeletedFilter(id=row.id, object=row.kind)


def file_to_learn(session: Session, file_id: str, purpose: str) -> File:
    """A file that a filter can be trained from.

    Raises:
        Unprocessable: there is none, it could not be read, or it is for something else.
    """
    try:
        file = get_file(session, file_id)
    except NotFound as error:
        raise Unprocessable(f"file: {error.detail}", param="file") from None
    if file.purpose != purpose:
        detail = f"file: its purpose is {file.purpose}: upload it with the purpose {purpose}"
        raise Unprocessable(detail, param="file", code="wrong_purpose")
    if file.status == "error":
        raise Unprocessable(f"file: it could not be read: {file.status_details}", param="file")
    return file


def cancel(session: Session, row: LearnedFilter) -> LearnedFilter:
    """Ends a filter's training; one cancelled already stays as it is.

    Raises:
        Conflict: it has ended otherwise.
    """
    session.refresh(row, with_for_update=True)
    if row.status == "cancelled":
        return row
    if row.status in FINAL:
        raise Conflict(f"the {repository.called(row.kind)} has {row.status} already", code="already_ended")
    row.status, row.finished_at = "cancelled", time.time()
    for work in repository.work_of(session, row.id):
        work.state = "cancelled"
    return row


def trained(session: Session, kind: str, filter_id: str) -> LearnedFilter:
    """A filter that can be asked.

    Raises:
        Conflict: it has not succeeded.
    """
    row = repository.get_filter(session, kind, filter_id)
    if row.status != "succeeded":
        detail = f"the {repository.called(kind)} is {row.status}: it can be asked once it has succeeded"
        raise Conflict(detail, code="not_ready", permanent=row.status in FINAL)
    return row


def told(row: LearnedFilter, used_by: list[str] | None) -> dict[str, Any]:
    """What the API tells of any filter."""
    return {
        "id": row.id, "object": row.kind, "name": row.name, "file": row.file_id, "holdout": row.request["holdout"],
        "status": row.status, "digest": row.digest, "metrics": row.metrics, "used_by": used_by,
        "warnings": row.warnings, "error": row.error, "created_at": int(row.created_at),
        "finished_at": None if row.finished_at is None else int(row.finished_at),
    }  # fmt: skip


def show_classifier(row: LearnedFilter, used_by: list[str] | None = None) -> ClassifierObject:
    """The classifier as the API tells it."""
    request = row.request
    return ClassifierObject(
        **told(row, used_by), parent=request.get("parent"), labels_added=len(request.get("labels", [])),
        hyperparameters=request["hyperparameters"],
    )  # fmt: skip
