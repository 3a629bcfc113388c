"""Classifiers: trained from labels, asked for predictions, named by recipes."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.auth import needs
from app.datasets.service import open_version
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.filters import repository, service
from app.filters.answers import answer
from app.filters.schemas import (
    ClassifierObject,
    DeletedFilter,
    NewClassifier,
    NewLabels,
    PredictionObject,
    Predictions,
    Texts,
)
from app.filters.service import cancel, delete_filter, trained
from app.models import LearnedFilter
from app.once import OnceRoute

router = APIRouter(prefix="/v1/classifiers", tags=["learned filters"], route_class=OnceRoute)
ClassifierId = Annotated[str, Path(pattern=r"^clf-[0-9a-f]{24}$")]


@router.post("", status_code=202, dependencies=[needs("curate")], responses=responses())
def create(body: NewClassifier, session: WriteSession) -> ClassifierObject:
    """Trains a classifier from a file of labelled texts; poll it until it has succeeded."""
    return service.show_classifier(service.create_classifier(session, body))


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_classifiers(session: ReadSession, page: Paged) -> ListOf:
    """All classifiers, the newest first."""
    rows, more = page_of(session, repository.filters(repository.CLASSIFIER), LearnedFilter, page)
    return ListOf(data=[service.show_classifier(row) for row in rows], has_more=more)


@router.get("/{classifier_id}", dependencies=[needs("read")], responses=responses(NotFound), response_model=None)
def get(
    classifier_id: ClassifierId, session: ReadSession, request: Request, response: Response
) -> ClassifierObject | Response:
    """One classifier; once it succeeded it has its metrics and carries a strong ETag, which changes with its users."""
    row = repository.get_filter(session, repository.CLASSIFIER, classifier_id)
    return answer(session, row, service.show_classifier, request, response)


@router.delete("/{classifier_id}", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def delete(classifier_id: ClassifierId, session: WriteSession) -> DeletedFilter:
    """Takes a classifier away; 409 with its users while a version's recipe or a later classifier names it."""
    return delete_filter(session, repository.get_filter(session, repository.CLASSIFIER, classifier_id))


@router.post(
    "/{classifier_id}/labels", status_code=202, dependencies=[needs("curate")], responses=responses(NotFound, Conflict)
)  # fmt: skip
def add_labels(classifier_id: ClassifierId, body: NewLabels, session: WriteSession) -> ClassifierObject:
    """Trains the next classifier, from this one's labels and further ones; this one stays as it is."""
    return service.show_classifier(service.add_labels(session, classifier_id, body))


@router.get("/{classifier_id}/uncertain", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def uncertain(
    classifier_id: ClassifierId,
    session: ReadSession,
    version: Annotated[str, Query(pattern=r"^ver-[0-9a-f]{24}$", description="whose texts are looked at")],
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> ListOf:
    """The version's texts that the classifier is least sure of, the nearest to even first: what to label next."""
    from curation.classifier import open_classifier
    from curation.uncertain import uncertain_texts

    classifier = open_classifier(repository.ref_of(trained(session, repository.CLASSIFIER, classifier_id)))
    _, folder = open_version(session, version)
    return ListOf(data=uncertain_texts(folder.segments, classifier, limit), has_more=False)


@router.post(
    "/{classifier_id}/cancel", dependencies=[needs("curate")], responses=responses(NotFound, Conflict)
)  # fmt: skip
def cancel_training(classifier_id: ClassifierId, session: WriteSession) -> ClassifierObject:
    """Ends a classifier's training."""
    return service.show_classifier(
        cancel(session, repository.get_filter(session, repository.CLASSIFIER, classifier_id))
    )


@router.post("/{classifier_id}/predict", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def predict(classifier_id: ClassifierId, body: Texts, session: ReadSession) -> Predictions:
    """The likeliest label of each text, in the texts' order."""
    from curation.classifier import open_classifier

    classifier = open_classifier(repository.ref_of(trained(session, repository.CLASSIFIER, classifier_id)))
    found = classifier.predict(body.texts)
    return Predictions(predictions=[PredictionObject(label=one.label, score=one.score) for one in found])
