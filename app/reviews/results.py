"""What a review found: wins with their interval, agreement between raters, and an export of every judgement."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.models import Judgement, Review, ReviewItem
from app.reviews import repository
from app.reviews.schemas import Agreement, ByPair, Judging, ResultObject, ReviewObject, Wins
from app.reviews.service import ready, sides
from trainer.intervals import wilson

Judged = Sequence[tuple[ReviewItem, Judgement]]
COLUMNS = (
    "item", "conversation_id", "messages", "left", "right", "reference", "shown_as_a", "rater", "choice", "winner",
    "comment", "created_at",
)  # fmt: skip


def show_reviews(session: Session, reviews: Sequence[Review]) -> list[ReviewObject]:
    """Reviews as the API tells them."""
    ids = [review.id for review in reviews]
    progress, judgements = repository.progress_of(session, ids), repository.judged_of(session, ids)
    shown = []
    for review in reviews:
        known, judged = progress[review.id], judgements[review.id]
        shown.append(
            ReviewObject(
                id=review.id, name=review.name, left=review.left, right=review.right, prompts=review.prompts,
                samples=review.samples, seed=review.seed, max_new_tokens=review.request.get("max_new_tokens"),
                temperature=review.request.get("temperature"), status=review.status,
                progress={"replies_done": known.replies, "replies_total": 2 * (known.pairs or review.samples)},
                judging=Judging(
                    raters=list(judged), judgements=sum(judged.values()), closed=review.closed_at is not None,
                    complete=_is_complete(review, judged, known.pairs),
                ),
                warnings=review.warnings, error=review.error, created_at=int(review.created_at),
                finished_at=None if review.finished_at is None else int(review.finished_at),
            )
        )  # fmt: skip
    return shown


def result_of(session: Session, review: Review) -> ResultObject:
    """Counts, the left side's win rate and how far raters agree; what tells the sides only once judging is complete.

    Raises:
        Conflict: there are no replies to judge yet.
    """
    ready(review)
    items, judged = repository.items_of(session, review.id), repository.judgements_of(session, review.id)
    per_rater = repository.num_judged(session, review.id)
    complete = _is_complete(review, per_rater, len(items))
    winners = [sides(item, judgement.choice) for item, judgement in judged]
    counts = Counter(winners)
    rate, interval = _rate(counts)
    return ResultObject(
        review=review.id, complete=complete,
        waiting_for={} if complete else {rater: len(items) - n for rater, n in per_rater.items() if n < len(items)},
        left=review.left, right=review.right, pairs=len(items), pairs_judged=len({item.id for item, _ in judged}),
        identical=sum(item.left == item.right for item in items), judgements=len(judged), ties=counts["tie"],
        both_bad=counts["both_bad"], wins=_wins(counts) if complete else None, win_rate=rate if complete else None,
        win_rate_interval=interval if complete else None, by_pair=_by_pair(judged, winners) if complete else None,
        agreement=_agreement(judged, winners) if complete else None,
    )  # fmt: skip


def export_rows(session: Session, review: Review) -> list[dict[str, Any]]:
    """Every judgement with its pair, the sides named.

    Raises:
        Conflict: the judging is not complete.
    """
    ready(review)
    judged = repository.judgements_of(session, review.id)
    num_items = repository.progress_of(session, [review.id])[review.id].pairs
    if not _is_complete(review, repository.num_judged(session, review.id), num_items):
        detail = "the sides are told once everybody who began has judged every pair, or the review is closed"
        raise Conflict(detail, code="still_blind", permanent=False)
    values = [
        (
            item.id, item.conversation_id, item.messages, item.left, item.right, item.reference,
            "right" if item.swapped else "left", judgement.rater, judgement.choice, sides(item, judgement.choice),
            judgement.comment, int(judgement.created_at),
        )
        for item, judgement in judged
    ]  # fmt: skip
    return [dict(zip(COLUMNS, row, strict=True)) for row in values]


def as_json_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """A line a judgement."""
    for row in rows:
        yield orjson.dumps(row) + b"\n"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """The same as a table, messages as JSON; an apostrophe goes before what a spreadsheet would take for a formula."""
    for row in [dict(zip(COLUMNS, COLUMNS, strict=True)), *rows]:
        text = io.StringIO()
        csv.writer(text).writerow([_cell(row[name]) for name in COLUMNS])
        yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return orjson.dumps(value).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _is_complete(review: Review, judged: Mapping[str, int], num_items: int) -> bool:
    if review.closed_at is not None:
        return True
    return bool(judged) and all(count == num_items for count in judged.values())


def _wins(counts: Mapping[str, int]) -> Wins:
    return Wins(left=counts.get("left", 0), right=counts.get("right", 0))


def _rate(counts: Mapping[str, int]) -> tuple[float | None, tuple[float, float] | None]:
    """The left side's share of what prefers a side, and its interval."""
    left, right = counts.get("left", 0), counts.get("right", 0)
    if left + right == 0:
        return None, None
    share = left / (left + right)
    return share, wilson(share, left + right)


def _by_pair(judged: Judged, winners: Sequence[str]) -> ByPair:
    votes: dict[str, Counter[str]] = {}
    for (item, _), winner in zip(judged, winners, strict=True):
        votes.setdefault(item.id, Counter())[winner] += 1
    counts = Counter(_majority(counted) for counted in votes.values())
    rate, interval = _rate(counts)
    return ByPair(
        wins=_wins(counts), ties=counts["tie"], both_bad=counts["both_bad"], win_rate=rate, win_rate_interval=interval
    )


def _majority(counted: Counter[str]) -> str:
    (first, most), *others = counted.most_common()
    return "tie" if any(count == most for _, count in others) else first


def _agreement(judged: Judged, winners: Sequence[str]) -> Agreement | None:
    """None where no two raters judged a pair."""
    by_item: dict[str, list[tuple[str, str]]] = {}
    for (item, judgement), winner in zip(judged, winners, strict=True):
        by_item.setdefault(item.id, []).append((judgement.rater, winner))
    shared = {item: votes for item, votes in by_item.items() if len(votes) > 1}
    if not shared:
        return None
    from nltk.metrics.agreement import AnnotationTask

    raters = {rater for votes in shared.values() for rater, _ in votes}
    alike = couples = 0
    for votes in shared.values():
        couples += len(votes) * (len(votes) - 1) // 2
        alike += sum(n * (n - 1) // 2 for n in Counter(winner for _, winner in votes).values())
    task = AnnotationTask([(rater, item, winner) for item, votes in shared.items() for rater, winner in votes])
    varied = len({winner for votes in shared.values() for _, winner in votes}) > 1
    return Agreement(
        raters=len(raters), pairs=len(shared), share=alike / couples,
        krippendorff_alpha=float(task.alpha()) if varied else None,
    )  # fmt: skip
