"""Reviews: prompts are drawn, and both models answer them, in a child process of this worker.

Pairs and replies are stored as they come. Killed anywhere, whoever takes the work over goes on with the replies that
are missing.
"""

import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.datasets.service import open_version
from app.db import reading, writing
from app.errors import Unprocessable
from app.files.repository import get_file, raw_segments
from app.models import Review, ReviewItem, Work
from app.queue import add_nudge
from app.reviews import repository
from app.reviews.service import add_items
from app.store import get_store
from app.training.chat import Generators
from app.training.completions import find_speaker
from curation.prompts import draw_prompts
from worker.celery_app import stopping
from worker.curating import CannotBeDoneError
from worker.leases import Lease, LeaseLostError, check_held, finish, give_back

WRITE_EVERY_S = 1.0
SIDES = ("left", "right")


def answer_prompts(lease: Lease, lost: threading.Event) -> None:
    """Draws a review's prompts, once their file is processed, and has both models answer each."""
    if not _begin(lease):
        return
    with reading() as session:
        review = session.get_one(Review, lease.subject)
        items = repository.items_of(session, review.id) or None
    if items is None:
        items = _draw(lease, review)
    unanswered: set[str] = set()
    for side in SIDES:
        with closing(_Side(lease, review, side)) as model:
            for item in items:
                if item.id in unanswered or getattr(item, side) is not None:
                    continue
                if lost.is_set():
                    raise LeaseLostError("the review was cancelled or taken over")
                if stopping.is_set():
                    model.write()
                    give_back(lease, nudge=True)
                    return
                if not model.answer(item):
                    unanswered.add(item.id)
            model.write()
    _publish(lease, unanswered, len(items))


def fail_review(session: Session, lease: Lease, error: str) -> None:
    """The replies cannot be generated."""
    review = session.get(Review, lease.subject)
    if review is not None and review.status in ("queued", "running"):
        review.status, review.error, review.finished_at = "failed", error, time.time()


@dataclass(frozen=True)
class _Reply:
    item_id: str
    text: str


class _Side:
    """One of the two models, in a process that ends with it, and its replies on their way to the database."""

    def __init__(self, lease: Lease, review: Review, side: str) -> None:
        self._lease, self._review, self._side = lease, review, side
        self._models = Generators()
        self._waiting: list[_Reply] = []
        self._written_at = time.monotonic()
        with reading() as session:
            self._speaker = find_speaker(session, getattr(review, side))
        self._folder, self._checkpoint = self._speaker.lay_out()

    def answer(self, item: ReviewItem) -> bool:
        """Has the model answer; false where it cannot answer this prompt."""
        wanted = self._review.request
        request = {
            "messages": item.messages, "temperature": wanted["temperature"],
            "seed": (self._review.seed + item.ordinal) % 2**63,
            "max_new_tokens": min(wanted["max_new_tokens"], self._speaker.max_target_length),
            "max_source_length": self._speaker.max_source_length,
        }  # fmt: skip
        try:
            (reply,) = self._models.ask(self._folder, self._checkpoint, request)
        except Unprocessable:
            return False
        self._waiting.append(_Reply(item.id, reply["text"].replace("\x00", "")))  # which PostgreSQL takes in no text
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write()
        return True

    def write(self) -> None:
        """Stores the replies that wait.

        Raises:
            LeaseLostError: somebody else generates them now, or it was cancelled.
        """
        with writing() as session:
            check_held(session, self._lease)
            for reply in self._waiting:
                session.execute(
                    update(ReviewItem).where(ReviewItem.id == reply.item_id).values({self._side: reply.text})
                )
        self._waiting.clear()
        self._written_at = time.monotonic()

    def close(self) -> None:
        self._models.close()


def _begin(lease: Lease) -> bool:
    """Whether the prompts are there; where their file is still processed, its end announces this again.

    Raises:
        CannotBeDoneError: the file could not be read.
    """
    with writing() as session:
        review = session.get_one(Review, lease.subject)
        assert review.prompts is not None
        status = "processed"
        if review.prompts.startswith("file-"):
            file = get_file(session, review.prompts)
            status = file.status
            if status == "error":
                raise CannotBeDoneError(f"file {file.id} could not be read: {file.status_details}")
        if status == "processed":
            review.status = "running"
            return True
    give_back(lease, nudge=False)
    with writing() as session:
        if get_file(session, review.prompts).status in ("processed", "error"):  # it ended just before
            add_nudge(session, session.get_one(Work, lease.work_id))
    return False


def _draw(lease: Lease, review: Review) -> list[ReviewItem]:
    """Draws the prompts and stores them in the order in which they are judged.

    Raises:
        CannotBeDoneError: there are none.
    """
    prompts = draw_prompts(_segments(review), review.samples, review.seed)
    if not prompts:
        raise CannotBeDoneError(f"{review.prompts} has no conversation with a user's turn to reply to")
    with writing() as session:
        check_held(session, lease)
        mine = session.get_one(Review, review.id)
        if len(prompts) < review.samples:
            told = f"there are {len(prompts)} different prompts, fewer than the {review.samples} asked for"
            mine.warnings = [*mine.warnings, told]
        return add_items(session, mine, prompts)


def _segments(review: Review) -> list[Path]:
    assert review.prompts is not None
    with reading() as session:
        if review.prompts.startswith("ver-"):
            return list(open_version(session, review.prompts)[1].segments)
        names = [segment.sha256 for segment in raw_segments(session, review.prompts)]
    return [get_store().path(name) for name in names]


def _publish(lease: Lease, unanswered: set[str], num_items: int) -> None:
    """The pairs can be judged; those that a model could not answer are taken out.

    Raises:
        CannotBeDoneError: none is left.
    """
    if len(unanswered) == num_items:
        raise CannotBeDoneError("the models could answer none of the prompts")
    with writing() as session:
        finish(session, lease, {"pairs": num_items - len(unanswered)})
        review = session.get_one(Review, lease.subject)
        for item_id in unanswered:
            session.delete(session.get_one(ReviewItem, item_id))
        if unanswered:
            told = f"{len(unanswered)} prompts could not be answered and are left out"
            review.warnings = [*review.warnings, told]
        review.status, review.finished_at = "succeeded", time.time()
