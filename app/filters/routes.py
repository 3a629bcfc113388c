"""Classifiers: trained from labels, asked for predictions, named by recipes."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.fields import is_current
from app.filters import repository, service
from app.filters.schemas import ClassifierObject, NewClassifier, PredictionObject, Predictions, Texts
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
    rows, more = page_of(session, repository.classifiers(), LearnedFilter, page)
    return ListOf(data=[service.show_classifier(row) for row in rows], has_more=more)


@router.get("/{classifier_id}", dependencies=[needs("read")], responses=responses(NotFound), response_model=None)
def get(
    classifier_id: ClassifierId, session: ReadSession, request: Request, response: Response
) -> ClassifierObject | Response:
    """One classifier; once it succeeded it has its metrics and carries a strong ETag."""
    row = repository.get_classifier(session, classifier_id)
    if row.status == "succeeded":
        etag = f'"{row.artefact_sha256}"'
        if is_current(request, etag):
            return Response(status_code=304, headers={"etag": etag})
        response.headers["etag"] = etag
    return service.show_classifier(row)


@router.post(
    "/{classifier_id}/cancel", dependencies=[needs("curate")], responses=responses(NotFound, Conflict)
)  # fmt: skip
def cancel(classifier_id: ClassifierId, session: WriteSession) -> ClassifierObject:
    """Ends a classifier's training."""
    return service.show_classifier(service.cancel_classifier(session, classifier_id))


@router.post("/{classifier_id}/predict", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def predict(classifier_id: ClassifierId, body: Texts, session: ReadSession) -> Predictions:
    """The likeliest label of each text, in the texts' order."""
    from curation.classifier import open_classifier

    classifier = open_classifier(repository.ref_of(service.trained(session, classifier_id)))
    found = classifier.predict(body.texts)
    return Predictions(predictions=[PredictionObject(label=one.label, score=one.score) for one in found])
