"""Selects of the pages that look at everything at once: what is under way, and what somebody should look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from app.datasets.repository import progress_of
from app.models import Dataset, Experiment, File, Job, LearnedFilter, Review, Version, Work

Row = TypeVar("Row", File, Version, Job, LearnedFilter, Review, Experiment)
UNDER_WAY = ("uploaded", "processing", "validating_files", "queued", "running", "paused")
MOST = 12
"""How many of a kind are shown."""


@dataclass(frozen=True)
class Item:
    """A thing that is under way, or that somebody should look at."""

    kind: str
    """file, version, job, classifier, smoother, reward_model, review, experiment"""
    id: str
    name: str
    status: str
    created_at: float
    done: float | None = None
    """Share that is done, where it is known."""
    why: str | None = None
    num_quarantined: int = 0


def datasets_with_newest(session: Session, limit: int) -> list[tuple[Dataset, Version | None, int]]:
    """The newest datasets, each with its newest version and the number of its versions."""
    datasets = session.scalars(select(Dataset).order_by(Dataset.created_at.desc()).limit(limit)).all()
    ids = [dataset.id for dataset in datasets]
    counted = select(Version.dataset_id, func.max(Version.number), func.count()).where(Version.dataset_id.in_(ids))
    counts = {name: (number, count) for name, number, count in session.execute(counted.group_by(Version.dataset_id))}
    versions = {(row.dataset_id, row.number): row for row in session.scalars(_of_datasets(ids))}
    return [
        (dataset, versions.get((dataset.id, counts.get(dataset.id, (0, 0))[0])), counts.get(dataset.id, (0, 0))[1])
        for dataset in datasets
    ]


def _of_datasets(ids: Sequence[str]) -> Select[Version]:
    newest = (
        select(Version.dataset_id, func.max(Version.number).label("number")).group_by(Version.dataset_id).subquery()
    )
    same = and_(Version.dataset_id == newest.c.dataset_id, Version.number == newest.c.number)
    return select(Version).join(newest, same).where(Version.dataset_id.in_(ids))


def names_of(session: Session, versions: Sequence[Version]) -> dict[str, str]:
    """`dataset · v3` of each version, by its id."""
    ids = {version.dataset_id for version in versions}
    names = {row.id: row.name for row in session.scalars(select(Dataset).where(Dataset.id.in_(ids)))}
    return {version.id: f"{names[version.dataset_id]} · v{version.number}" for version in versions}


def name_of_job(job: Job) -> str:
    """The base and the suffix, as users know a job."""
    suffix = job.request.get("suffix")
    return f"{job.model.rsplit('/', 1)[-1]} · {suffix}" if suffix else job.model.rsplit("/", 1)[-1]


def under_way(session: Session) -> list[Item]:
    """What has not ended, the newest first."""
    return _items(session, UNDER_WAY)


def needs_attention(session: Session) -> list[Item]:
    """What failed, and files with records that could not be read; the newest first."""
    files = session.scalars(select(File).order_by(File.created_at.desc()).limit(100)).all()
    quarantined = [
        Item("file", row.id, row.filename, row.status, row.created_at, num_quarantined=row.counts["quarantined"])
        for row in files
        if row.status == "processed" and row.counts.get("quarantined")
    ]
    found = sorted([*quarantined, *_items(session, ("failed", "error"))], key=lambda item: -item.created_at)
    return found[:MOST]


def num_dead_letters(session: Session) -> int:
    """Pieces of work that were given up."""
    return session.scalar(select(func.count()).where(Work.state == "dead")) or 0


def _items(session: Session, statuses: Sequence[str]) -> list[Item]:
    versions = _newest(session, Version, statuses)
    names, progress = names_of(session, versions), progress_of(session, [row.id for row in versions])
    items = [
        Item("file", row.id, row.filename, row.status, row.created_at, why=row.status_details)
        for row in _newest(session, File, statuses)
    ]
    for version in versions:
        shards = progress[version.id]
        done = shards.shards_done / shards.shards_total if shards.shards_total else None
        items.append(
            Item("version", version.id, names[version.id], version.status, version.created_at, done, version.error)
        )
    for job in _newest(session, Job, statuses):
        why = (job.error or {}).get("message")
        items.append(Item("job", job.id, name_of_job(job), job.status, job.created_at, _done(job.progress), why))
    items += [
        Item(row.kind, row.id, row.name, row.status, row.created_at, why=row.error)
        for row in _newest(session, LearnedFilter, statuses)
    ]
    items += [
        Item("review", row.id, row.name, row.status, row.created_at, why=row.error)
        for row in _newest(session, Review, statuses)
    ]
    items += [
        Item("experiment", row.id, row.name, row.status, row.created_at, why=row.error)
        for row in _newest(session, Experiment, statuses)
    ]
    return sorted(items, key=lambda item: -item.created_at)


def _newest(session: Session, model: type[Row], statuses: Sequence[str]) -> Sequence[Row]:
    chosen = select(model).where(model.status.in_(statuses)).order_by(model.created_at.desc()).limit(MOST)
    return session.scalars(chosen).all()


def _done(progress: dict[str, Any]) -> float | None:
    steps = progress.get("steps")
    return progress.get("step", 0) / steps if steps else None
