"""The rules of classifiers: what one can be trained from, when it can be asked."""

import time

from sqlalchemy.orm import Session

from app.errors import Conflict, NotFound, Unprocessable
from app.files.repository import get_file
from app.filters import repository
from app.filters.schemas import ClassifierObject, NewClassifier, NewLabels
from app.models import FINAL, File, LearnedFilter, new_id
from app.queue import add_work

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
    row = LearnedFilter(
        id=new_id("clf"), kind=repository.CLASSIFIER, name=body.name, file_id=file.id, status="queued", metrics={},
        warnings=[], request={"holdout": body.holdout, "hyperparameters": settings.model_dump()},
    )  # fmt: skip
    session.add(row)
    session.flush()
    add_work(session, "learn", row.id)
    session.flush()
    return row


def add_labels(session: Session, classifier_id: str, body: NewLabels) -> LearnedFilter:
    """Records the next classifier: trained from the labels of this one and further ones, its settings kept.

    Raises:
        Conflict: this one's training was cancelled or failed.
        Unprocessable: more further labels than MAX_ADDED, over all parents.
    """
    parent = repository.get_classifier(session, classifier_id)
    if parent.status in ("failed", "cancelled"):
        detail = f"the classifier has {parent.status}: train one from its file first"
        raise Conflict(detail, code="not_ready", permanent=True)
    added = {**dict(parent.request.get("labels", [])), **{one.text: one.label for one in body.labels}}
    if len(added) > MAX_ADDED:
        raise Unprocessable(f"labels: more than {MAX_ADDED:,} beside the file: upload them as a file", param="labels")
    request = {**parent.request, "parent": parent.id, "labels": sorted(added.items())}
    row = LearnedFilter(
        id=new_id("clf"), kind=repository.CLASSIFIER, name=body.name or parent.name, file_id=parent.file_id,
        status="queued", metrics={}, warnings=[], request=request,
    )  # fmt: skip
    session.add(row)
    session.flush()
    add_work(session, "learn", row.id)
    session.flush()
    return row


def delete_filter(session: Session, row: LearnedFilter, what: str) -> None:
    """Takes a filter away that nothing needs.

    Raises:
        Conflict: a version's recipe or another classifier names it, or it is still being trained.
    """
    session.refresh(row, with_for_update=True)
    if row.status not in FINAL:
        raise Conflict(f"the {what} is {row.status}: cancel it first", code="still_running")
    if users := [*repository.versions_with(session, row.id), *repository.children_of(session, row.id)]:
        raise Conflict(f"the {what} is used by {', '.join(users)}", code="filter_in_use", permanent=True)
    session.delete(row)


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


def cancel_classifier(session: Session, classifier_id: str) -> LearnedFilter:
    """Ends a classifier's training; one cancelled already stays as it is.

    Raises:
        Conflict: it has ended otherwise.
    """
    return cancel(session, repository.get_classifier(session, classifier_id), "classifier")


def cancel(session: Session, row: LearnedFilter, what: str) -> LearnedFilter:
    """Ends a filter's training, as `cancel_classifier` does."""
    session.refresh(row, with_for_update=True)
    if row.status == "cancelled":
        return row
    if row.status in FINAL:
        raise Conflict(f"the {what} has {row.status} already", code="already_ended")
    row.status, row.finished_at = "cancelled", time.time()
    for work in repository.work_of(session, row.id):
        work.state = "cancelled"
    return row


def trained(session: Session, classifier_id: str) -> LearnedFilter:
    """A classifier that can be asked.

    Raises:
        Conflict: it has not succeeded.
    """
    return askable(repository.get_classifier(session, classifier_id), "classifier")


def askable(row: LearnedFilter, what: str) -> LearnedFilter:
    """The filter, once it has succeeded; else Conflict."""
    if row.status != "succeeded":
        detail = f"the {what} is {row.status}: it can be asked once it has succeeded"
        raise Conflict(detail, code="not_ready", permanent=row.status in FINAL)
    return row


def show_classifier(row: LearnedFilter, used_by: list[str] | None = None) -> ClassifierObject:
    """The classifier as the API tells it."""
    return ClassifierObject(
        id=row.id, name=row.name, file=row.file_id, parent=row.request.get("parent"),
        labels_added=len(row.request.get("labels", [])), holdout=row.request["holdout"],
        hyperparameters=row.request["hyperparameters"], status=row.status, digest=row.digest, metrics=row.metrics,
        used_by=used_by,
        warnings=row.warnings, error=row.error, created_at=int(row.created_at),
        finished_at=None if row.finished_at is None else int(row.finished_at),
    )  # fmt: skip
