"""Selects of reviews, their pairs and judgements."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Judgement, Review, ReviewItem, Work


def get_review(session: Session, review_id: str, *, locked: bool = False) -> Review:
    """The review, or NotFound."""
    review = session.get(Review, review_id, with_for_update=locked or None)
    if review is None:
        raise NotFound(f"there is no review {review_id}")
    return review


def reviews() -> Select[Review]:
    """All reviews."""
    return select(Review)


def items_of(session: Session, review_id: str) -> list[ReviewItem]:
    """A review's pairs in their stored order."""
    mine = select(ReviewItem).where(ReviewItem.review_id == review_id)
    return list(session.scalars(mine.order_by(ReviewItem.ordinal)))


def get_item(session: Session, review_id: str, item_id: str) -> ReviewItem:
    """A pair of this review, or NotFound."""
    item = session.get(ReviewItem, item_id)
    if item is None or item.review_id != review_id:
        raise NotFound(f"the review has no item {item_id}", param="item")
    return item


def next_item(session: Session, review_id: str, rater: str) -> ReviewItem | None:
    """The first pair that the rater has not judged."""
    by_rater = and_(Judgement.item_id == ReviewItem.id, Judgement.rater == rater)
    open_ones = select(ReviewItem).outerjoin(Judgement, by_rater)
    open_ones = open_ones.where(ReviewItem.review_id == review_id, Judgement.item_id.is_(None))
    return session.scalar(open_ones.order_by(ReviewItem.ordinal).limit(1))


def num_judged(session: Session, review_id: str) -> dict[str, int]:
    """How many pairs each rater has judged, by rater."""
    return judged_of(session, [review_id])[review_id]


def judged_of(session: Session, review_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """The same of several reviews, by review."""
    counts = select(ReviewItem.review_id, Judgement.rater, func.count())
    counts = counts.join(Judgement, Judgement.item_id == ReviewItem.id).where(ReviewItem.review_id.in_(review_ids))
    counts = counts.group_by(ReviewItem.review_id, Judgement.rater).order_by(Judgement.rater)
    found: dict[str, dict[str, int]] = {review_id: {} for review_id in review_ids}
    for review_id, rater, count in session.execute(counts):
        found[review_id][rater] = count
    return found


def judgements_of(session: Session, review_id: str) -> list[tuple[ReviewItem, Judgement]]:
    """All judgements with their pairs, in the stored order of pairs, then by rater."""
    mine = select(ReviewItem, Judgement).join(Judgement, Judgement.item_id == ReviewItem.id)
    mine = mine.where(ReviewItem.review_id == review_id).order_by(ReviewItem.ordinal, Judgement.rater)
    return [(item, judgement) for item, judgement in session.execute(mine)]


@dataclass(frozen=True)
class Progress:
    """How many of a review's replies there are."""

    pairs: int = 0
    replies: int = 0


def progress_of(session: Session, review_ids: Sequence[str]) -> dict[str, Progress]:
    """Counted inside the database."""
    counts = select(ReviewItem.review_id, func.count(), func.count(ReviewItem.left) + func.count(ReviewItem.right))
    counts = counts.where(ReviewItem.review_id.in_(review_ids)).group_by(ReviewItem.review_id)
    found = {name: Progress(pairs, replies) for name, pairs, replies in session.execute(counts)}
    return {review_id: found.get(review_id, Progress()) for review_id in review_ids}


def open_work(session: Session, review_id: str) -> list[Work]:
    """The generation of a review's replies, if it has not ended."""
    mine = (Work.kind == "review", Work.subject == review_id, Work.state.in_(("pending", "leased")))
    return list(session.scalars(select(Work).where(*mine)))
