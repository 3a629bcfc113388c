"""The rules of reviews: what may be compared, when a pair may be judged, when the sides may be known.

The order of pairs and which side is `a` are stored when the pairs are made; both follow from the seed. Half of the
pairs are swapped. Until everybody who began has judged every pair, or the review is closed, nothing that is answered
depends on the sides.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from app.datasets.repository import get_version
from app.errors import Conflict, NotFound, Unprocessable
from app.files.repository import CONVERSATIONS, get_file
from app.models import FINAL, Job, Judgement, Review, ReviewItem, new_id
from app.queue import add_work
from app.reviews import repository
from app.reviews.schemas import DeletedReview, JudgementObject, NewJudgement, NewReview, Pair
from app.training.completions import find_speaker

if TYPE_CHECKING:
    from curation.prompts import Prompt

MAX_RATERS = 1000


@dataclass(frozen=True)
class Answered:
    """A prompt with what each side said to it."""

    prompt: "Prompt"
    left: str
    right: str


def create_review(session: Session, body: NewReview) -> Review:
    """Records a review and the generation of its replies.

    Raises:
        NotFound: there is no such model, file or version.
        Unprocessable: a job has not succeeded, or prompts cannot be drawn; `param` names the field.
    """
    left, right = (_model(session, getattr(body, side), side) for side in ("left", "right"))
    _check_prompts(session, body.prompts)
    warnings = []
    if left == right:
        warnings.append("both sides are the same model: what is found is how raters differ by chance")
    learned = {side: find_speaker(session, name).version_id for side, name in (("left", left), ("right", right))}
    warnings += [
        f"the {side} model was trained on the version that prompts are drawn from: it may know the replies by heart"
        for side, version in learned.items()
        if version == body.prompts
    ]
    review = Review(
        id=new_id("rev"), name=body.name or f"{left} and {right}", left=left, right=right, prompts=body.prompts,
        samples=body.samples, seed=body.seed, status="queued", warnings=warnings,
        request={"max_new_tokens": body.max_new_tokens, "temperature": body.temperature},
    )  # fmt: skip
    session.add(review)
    session.flush()
    add_work(session, "review", review.id, queue="train")
    session.flush()
    return review


def create_from_replies(
    session: Session, *, name: str, left: str, right: str, pairs: Sequence[Answered], seed: int
) -> Review:
    """Records a review of replies that are there already, such as those of an experiment's runs; ready to be judged.

    Args:
        left: what to call the side in the result.
        right: the other one.
        pairs: in any order; their conversations' ids must differ, since the order follows from them.
        seed: decides order and sides.
    """
    review = Review(
        id=new_id("rev"), name=name, left=left, right=right, prompts=None, samples=len(pairs), seed=seed,
        status="succeeded", request={}, warnings=[], finished_at=time.time(),
    )  # fmt: skip
    session.add(review)
    session.flush()
    replies = {pair.prompt.conversation_id: pair for pair in pairs}
    assert len(replies) == len(pairs)
    for item in add_items(session, review, [pair.prompt for pair in pairs]):
        item.left, item.right = replies[item.conversation_id].left, replies[item.conversation_id].right
    session.flush()
    return review


def add_items(session: Session, review: Review, prompts: "Sequence[Prompt]") -> list[ReviewItem]:
    """Stores the pairs in shuffled order, every second one in another order with its sides swapped."""
    from curation.prompts import rank

    shuffled = sorted(prompts, key=lambda prompt: rank(review.seed, "order", prompt.conversation_id))
    by_side = sorted(prompts, key=lambda prompt: rank(review.seed, "side", prompt.conversation_id))
    swapped = {prompt.conversation_id for prompt in by_side[::2]}
    items = [
        ReviewItem(
            id=new_id("item"), review_id=review.id, ordinal=ordinal, swapped=prompt.conversation_id in swapped,
            conversation_id=prompt.conversation_id, messages=list(prompt.messages), reference=prompt.reference,
        )
        for ordinal, prompt in enumerate(shuffled)
    ]  # fmt: skip
    session.add_all(items)
    return items


def next_pair(session: Session, review_id: str, rater: str) -> Pair:
    """The first pair in the stored order that this rater has not judged, however often they come back.

    Raises:
        Conflict: replies are still missing.
    """
    review = ready(repository.get_review(session, review_id))
    total = repository.progress_of(session, [review_id])[review_id].pairs
    judged = repository.num_judged(session, review_id).get(rater, 0)
    item = None if review.closed_at is not None else repository.next_item(session, review_id, rater)
    if item is None:
        return Pair(
            review=review_id, item=None, done=True, number=judged, total=total, messages=[], a=None, b=None
        )  # fmt: skip
    a, b = (item.right, item.left) if item.swapped else (item.left, item.right)
    return Pair(
        review=review_id, item=item.id, done=False, number=judged + 1, total=total, messages=item.messages, a=a, b=b
    )  # fmt: skip


def judge(session: Session, review_id: str, body: NewJudgement) -> JudgementObject:
    """Keeps a judgement; a rater may change one until they have judged every pair, since then they may know the sides.

    Raises:
        NotFound: the pair is none of this review's.
        Conflict: replies are missing, the review is closed, or it is too late to change a judgement.
    """
    review = ready(repository.get_review(session, review_id, locked=True))
    if review.closed_at is not None:
        raise Conflict("the review is closed: its result is known", code="closed")
    item = repository.get_item(session, review_id, body.item)
    total = repository.progress_of(session, [review_id])[review_id].pairs
    judged = repository.num_judged(session, review_id)
    if body.rater not in judged and len(judged) >= MAX_RATERS:
        raise Conflict(f"the review has {MAX_RATERS} raters already", code="too_many_raters")
    known = session.get(Judgement, (item.id, body.rater))
    if known is None:
        known = Judgement(item_id=item.id, rater=body.rater, choice=body.choice, comment=body.comment)
        known.created_at = time.time()
        session.add(known)
    elif (known.choice, known.comment) != (body.choice, body.comment):
        if judged[body.rater] == total:
            detail = f"{body.rater} has judged every pair and may know the sides: judgements stand now"
            raise Conflict(detail, code="already_judged")
        known.choice, known.comment, known.created_at = body.choice, body.comment, time.time()
    session.flush()
    still = total - repository.num_judged(session, review_id)[body.rater]
    return JudgementObject(
        review=review_id, item=item.id, rater=body.rater, choice=body.choice, comment=body.comment,
        created_at=int(known.created_at), left_to_judge=still,
    )  # fmt: skip


def ready(review: Review) -> Review:
    """The review, if its pairs can be judged.

    Raises:
        Conflict: its replies are not there, or not yet.
    """
    if review.status != "succeeded":
        detail = f"the review is {review.status}: pairs can be judged once it has succeeded"
        raise Conflict(detail, code="not_ready", permanent=review.status in FINAL)
    return review


def close_review(session: Session, review_id: str) -> Review:
    """Ends the judging, whoever has not finished; what was judged so far is the result. Closed once more, no change.

    Raises:
        Conflict: there is nothing to judge yet.
    """
    review = ready(repository.get_review(session, review_id, locked=True))
    review.closed_at = review.closed_at or time.time()
    return review


def cancel_review(session: Session, review_id: str) -> Review:
    """Ends the generation of replies; one cancelled already stays as it is.

    Raises:
        Conflict: it has ended otherwise.
    """
    review = repository.get_review(session, review_id, locked=True)
    if review.status == "cancelled":
        return review
    if review.status in FINAL:
        raise Conflict(f"the review has {review.status} already", code="already_ended")
    review.status, review.finished_at = "cancelled", time.time()
    for work in repository.open_work(session, review_id):
        work.state = "cancelled"
    return review


def delete_review(session: Session, review_id: str) -> DeletedReview:
    """Forgets a review with its judgements.

    Raises:
        Conflict: its replies are being generated.
    """
    review = repository.get_review(session, review_id, locked=True)
    if review.status not in FINAL:
        raise Conflict(f"the review is {review.status}: cancel it first", code="still_running")
    session.delete(review)
    return DeletedReview(id=review_id)


def _model(session: Session, name: str, side: str) -> str:
    """The name of a model that can answer; a job's id stands for its model.

    Raises:
        NotFound: there is none.
        Unprocessable: the job has none, or not yet.
    """
    job = session.get(Job, name) if name.startswith("ftjob-") else None
    if job is not None:
        if job.status != "succeeded" or job.fine_tuned_model is None:
            raise Unprocessable(f"{side}: the job is {job.status}: it has no model to compare", param=side)
        name = job.fine_tuned_model
    try:
        find_speaker(session, name)
    except NotFound as error:
        raise NotFound(f"{side}: {error.detail}", param=side, code=error.code) from None
    return name


def _check_prompts(session: Session, name: str) -> None:
    try:
        if name.startswith("ver-"):
            version = get_version(session, name)
            if version.status != "succeeded":
                raise Unprocessable(f"prompts: the version is {version.status}", param="prompts")
            return
        file = get_file(session, name)
    except NotFound as error:
        raise NotFound(f"prompts: {error.detail}", param="prompts") from None
    if file.purpose not in CONVERSATIONS:
        detail = f"prompts: the file's purpose is {file.purpose}: prompts are drawn from conversations"
        raise Unprocessable(detail, param="prompts", code="wrong_purpose")
    if file.status == "error":
        raise Unprocessable(f"prompts: the file could not be read: {file.status_details}", param="prompts")


def sides(item: ReviewItem, choice: str) -> str:
    """A rater's choice as left, right, tie or both_bad."""
    named: dict[str, Any] = {"a": "right", "b": "left"} if item.swapped else {"a": "left", "b": "right"}
    return str(named.get(choice, choice))
