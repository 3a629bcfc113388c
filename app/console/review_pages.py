"""Blind reviews: who is compared, judging by keyboard, the result."""

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from app.console import overview
from app.console.pages import PageRoute, SignedIn, render
from app.dependencies import Paged, ReadSession, page_of
from app.files.repository import CONVERSATIONS
from app.models import File, Review, Version
from app.reviews import repository, results
from app.reviews.routes import ReviewId
from app.training.showing import list_models

router = APIRouter(prefix="/console/reviews", route_class=PageRoute, include_in_schema=False)


@router.get("")
def reviews(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """All reviews, and a form for a new one."""
    rows, more = page_of(session, repository.reviews(), Review, page)
    versions = session.scalars(
        select(Version).where(Version.status == "succeeded").order_by(Version.created_at.desc()).limit(200)
    ).all()
    files = select(File).where(File.purpose.in_(CONVERSATIONS), File.status == "processed")
    return render(
        request, "reviews.html.jinja", reviews=results.show_reviews(session, rows), has_more=more,
        models=[one for one in list_models(session) if not one.id.startswith("scratch:")], versions=versions,
        names=overview.names_of(session, versions),
        files=session.scalars(files.order_by(File.created_at.desc()).limit(100)).all(),
    )  # fmt: skip


@router.get("/{review_id}")
def review(request: Request, console: SignedIn, review_id: ReviewId, session: ReadSession) -> Response:
    """One review: pairs to judge, and once everybody has, what came out."""
    found = repository.get_review(session, review_id)
    result = results.result_of(session, found) if found.status == "succeeded" else None
    return render(
        request, "review.html.jinja", review=results.show_reviews(session, [found])[0], result=result,
        rater=console.key.name,
    )  # fmt: skip
