"""Selects of learned filters."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sqlalchemy import Select, String, cast, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.filters.artefacts import lay_open
from app.filters.scorer import StoredScorer
from app.models import LearnedFilter, Version, Work

if TYPE_CHECKING:
    from curation.classifier import ClassifierRef
    from curation.smoother import SmootherRef

CLASSIFIER = "classifier"
SMOOTHER = "smoother"
REWARD_MODEL = "reward_model"


def filters(kind: str) -> Select[LearnedFilter]:
    """All filters of a kind."""
    return select(LearnedFilter).where(LearnedFilter.kind == kind)


def get_filter(session: Session, kind: str, filter_id: str) -> LearnedFilter:
    """The filter, or NotFound."""
    row = session.get(LearnedFilter, filter_id)
    if row is None or row.kind != kind:
        raise NotFound(f"there is no {called(kind)} {filter_id}")
    return row


def called(kind: str) -> str:
    """A kind's name in a sentence."""
    return kind.replace("_", " ")


def scorer_of(row: LearnedFilter) -> StoredScorer:
    """The scorer of a reward model that has succeeded."""
    assert row.digest is not None
    assert row.artefact_sha256 is not None
    return StoredScorer(row.digest, row.artefact_sha256)


def versions_with(session: Session, filter_id: str, limit: int = 100) -> list[str]:
    """Versions whose recipes name a filter, the newest first; ids of filters stand nowhere else in a recipe."""
    names = cast(Version.recipe, String).contains(f'"{filter_id}"')
    statement = select(Version.id).where(names).order_by(Version.created_at.desc(), Version.id).limit(limit)
    return list(session.scalars(statement))


def children_of(session: Session, filter_id: str) -> list[str]:
    """Classifiers that were trained from this one's labels."""
    parent = LearnedFilter.request["parent"].as_string()
    return list(session.scalars(select(LearnedFilter.id).where(parent == filter_id).order_by(LearnedFilter.id)))


def work_of(session: Session, filter_id: str) -> list[Work]:
    """The filter's training, while it is open."""
    statement = select(Work).where(Work.subject == filter_id, Work.state.in_(("pending", "leased")))
    return list(session.scalars(statement))


def ref_of(row: LearnedFilter) -> "ClassifierRef":
    """A classifier that has succeeded, its artefact on this machine."""
    from curation.classifier import ClassifierRef

    assert row.digest is not None
    assert row.artefact_sha256 is not None
    recommended = row.metrics["recommended_threshold"]
    labels = tuple(sorted(recommended))
    thresholds = tuple(recommended[label] for label in labels)
    return ClassifierRef(row.digest, labels, thresholds, lay_open(row.artefact_sha256))


def smoother_ref_of(row: LearnedFilter) -> "SmootherRef":
    """A smoother that has succeeded, its artefact on this machine."""
    from curation.smoother import SmootherRef

    assert row.digest is not None
    assert row.artefact_sha256 is not None
    return SmootherRef(row.digest, lay_open(row.artefact_sha256))


def filters_by_id(session: Session, ids: Iterable[str]) -> "dict[str, ClassifierRef | SmootherRef]":
    """The engine's classifiers and smoothers of those ids that exist and are trained, ready to be opened here."""
    refs: dict[str, Callable[[LearnedFilter], ClassifierRef | SmootherRef]] = {
        CLASSIFIER: ref_of,
        SMOOTHER: smoother_ref_of,
    }
    rows = [session.get(LearnedFilter, name) for name in sorted(set(ids))]
    found = [row for row in rows if row is not None and row.kind in refs and row.status == "succeeded"]
    return {row.id: refs[row.kind](row) for row in found}


def scorers_by_id(session: Session, ids: Iterable[str]) -> dict[str, StoredScorer]:
    """The engine's reward models of those ids that exist and are trained."""
    rows = [session.get(LearnedFilter, name) for name in sorted(set(ids))]
    found = [row for row in rows if row is not None and (row.kind, row.status) == (REWARD_MODEL, "succeeded")]
    return {row.id: scorer_of(row) for row in found}
