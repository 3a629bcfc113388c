"""Smoothers: trained from pairs of spoken and written text, asked for smoothed texts, named by recipes."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.filters import repository, smoother_service
from app.filters.answers import answer
from app.filters.schemas import DeletedFilter, Texts
from app.filters.service import cancel, delete_filter, trained
from app.filters.smoother_schemas import NewSmoother, SmoothedTexts, SmootherObject
from app.models import LearnedFilter
from app.once import OnceRoute

router = APIRouter(prefix="/v1/smoothers", tags=["learned filters"], route_class=OnceRoute)
SmootherId = Annotated[str, Path(pattern=r"^smo-[0-9a-f]{24}$")]


@router.post("", status_code=202, dependencies=[needs("curate")], responses=responses())
def create(body: NewSmoother, session: WriteSession) -> SmootherObject:
    """Trains a smoother from a file of pairs; poll it until it has succeeded."""
    return smoother_service.show_smoother(smoother_service.create_smoother(session, body))


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_smoothers(session: ReadSession, page: Paged) -> ListOf:
    """All smoothers, the newest first."""
    rows, more = page_of(session, repository.filters(repository.SMOOTHER), LearnedFilter, page)
    return ListOf(data=[smoother_service.show_smoother(row) for row in rows], has_more=more)


@router.get("/{smoother_id}", dependencies=[needs("read")], responses=responses(NotFound), response_model=None)
def get(
    smoother_id: SmootherId, session: ReadSession, request: Request, response: Response
) -> SmootherObject | Response:
    """One smoother; once it succeeded it has its metrics and carries a strong ETag, which changes with its users."""
    row = repository.get_filter(session, repository.SMOOTHER, smoother_id)
    return answer(session, row, smoother_service.show_smoother, request, response)


@router.delete("/{smoother_id}", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def delete(smoother_id: SmootherId, session: WriteSession) -> DeletedFilter:
    """Takes a smoother away; 409 with its users while a version's recipe names it."""
    return delete_filter(session, repository.get_filter(session, repository.SMOOTHER, smoother_id))


@router.post(
    "/{smoother_id}/cancel", dependencies=[needs("curate")], responses=responses(NotFound, Conflict)
)  # fmt: skip
def cancel_training(smoother_id: SmootherId, session: WriteSession) -> SmootherObject:
    """Ends a smoother's training."""
    return smoother_service.show_smoother(
        cancel(session, repository.get_filter(session, repository.SMOOTHER, smoother_id))
    )


@router.post("/{smoother_id}/predict", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def predict(smoother_id: SmootherId, body: Texts, session: ReadSession) -> SmoothedTexts:
    """Each text as smooth_disfluency leaves it with this smoother, in the texts' order."""
    row = trained(session, repository.SMOOTHER, smoother_id)
    return SmoothedTexts(predictions=smoother_service.smooth(row, body.texts))
