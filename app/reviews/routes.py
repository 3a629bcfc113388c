"""Blind reviews: two models' replies in shuffled order, judged by people, counted once everybody is done."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.fields import Name
from app.models import Review
from app.once import OnceRoute
from app.reviews import repository, results, service
from app.reviews.schemas import (
    DeletedReview,
    JudgementObject,
    NewJudgement,
    NewReview,
    Pair,
    ResultObject,
    ReviewObject,
)

router = APIRouter(prefix="/v1/reviews", tags=["reviews"], route_class=OnceRoute)
ReviewId = Annotated[str, Path(pattern=r"^rev-[0-9a-f]{24}$")]


@router.post("", status_code=202, dependencies=[needs("train")], responses=responses(NotFound))
def create(body: NewReview, session: WriteSession) -> ReviewObject:
    """Has two models answer the same prompts; poll it until it has succeeded, then let people judge."""
    return results.show_reviews(session, [service.create_review(session, body)])[0]


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_reviews(session: ReadSession, page: Paged) -> ListOf:
    """All reviews, the newest first."""
    rows, more = page_of(session, repository.reviews(), Review, page)
    return ListOf(data=results.show_reviews(session, rows), has_more=more)


@router.get("/{review_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get(review_id: ReviewId, session: ReadSession) -> ReviewObject:
    """One review: how far its replies and its judging are."""
    return results.show_reviews(session, [repository.get_review(session, review_id)])[0]


@router.delete("/{review_id}", dependencies=[needs("train")], responses=responses(NotFound, Conflict))
def delete(review_id: ReviewId, session: WriteSession) -> DeletedReview:
    """Forgets a review and its judgements; 409 while its replies are being generated."""
    return service.delete_review(session, review_id)


@router.post("/{review_id}/cancel", dependencies=[needs("train")], responses=responses(NotFound, Conflict))
def cancel(review_id: ReviewId, session: WriteSession) -> ReviewObject:
    """Ends the generation of replies."""
    return results.show_reviews(session, [service.cancel_review(session, review_id)])[0]


@router.post("/{review_id}/close", dependencies=[needs("train")], responses=responses(NotFound, Conflict))
def close(review_id: ReviewId, session: WriteSession) -> ReviewObject:
    """Ends the judging, whoever has not finished; then the result is told."""
    return results.show_reviews(session, [service.close_review(session, review_id)])[0]


@router.get("/{review_id}/next", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def next_pair(review_id: ReviewId, rater: Annotated[Name, Query()], session: ReadSession) -> Pair:
    """The next pair that this rater has not judged, its sides hidden; `done` once there is none."""
    return service.next_pair(session, review_id, rater)


@router.post("/{review_id}/judgements", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def judge(review_id: ReviewId, body: NewJudgement, session: WriteSession) -> JudgementObject:
    """Keeps what a rater thinks of a pair; it can be changed until this rater has judged every pair."""
    return service.judge(session, review_id, body)


@router.get("/{review_id}/result", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def result(review_id: ReviewId, session: ReadSession) -> ResultObject:
    """Wins, ties, win rate with its 95 % interval, and agreement; what tells the sides is null until all are done."""
    return results.result_of(session, repository.get_review(session, review_id))


@router.get(
    "/{review_id}/export",
    response_class=StreamingResponse,
    dependencies=[needs("read")],
    responses=responses(NotFound, Conflict),
)
def export(review_id: ReviewId, session: ReadSession, format: Literal["jsonl", "csv"] = "jsonl") -> Response:
    """Every judgement with its pair, the sides named; 409 until all are done."""
    rows = results.export_rows(session, repository.get_review(session, review_id))
    headers = {"content-disposition": f'attachment; filename="{review_id}.{format}"'}
    if format == "csv":
        return StreamingResponse(results.as_csv(rows), headers=headers, media_type="text/csv; charset=utf-8")
    return StreamingResponse(results.as_json_lines(rows), headers=headers, media_type="application/jsonl")
