"""Selects of datasets and versions."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Dataset, File, Version, VersionFile, Work


def get_dataset(session: Session, dataset_id: str) -> Dataset:
    """The dataset, or NotFound."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return dataset


def has_versions(session: Session, dataset_id: str) -> bool:
    """Whether the dataset has any version."""
    return session.scalar(select(Version.id).where(Version.dataset_id == dataset_id).limit(1)) is not None


def get_version(session: Session, version_id: str) -> Version:
    """The version, or NotFound."""
    version = session.get(Version, version_id)
    if version is None:
        raise NotFound(f"there is no version {version_id}")
    return version


def next_number(session: Session, dataset_id: str) -> int:
    """The number of the dataset's next version; the dataset is locked until the transaction ends."""
    session.get_one(Dataset, dataset_id, with_for_update=True)
    return (session.scalar(select(func.max(Version.number)).where(Version.dataset_id == dataset_id)) or 0) + 1


def datasets() -> Select[Dataset]:
    """All datasets."""
    return select(Dataset)


def versions_of(dataset_id: str) -> Select[Version]:
    """A dataset's versions."""
    return select(Version).where(Version.dataset_id == dataset_id)


def files_of(session: Session, version_id: str) -> list[File]:
    """The version's files, in the request's order."""
    joined = select(File).join(VersionFile, VersionFile.file_id == File.id)
    return list(session.scalars(joined.where(VersionFile.version_id == version_id).order_by(VersionFile.ordinal)))


def file_ids_of(session: Session, version_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of each version's files, in the request's order."""
    mine = select(VersionFile).where(VersionFile.version_id.in_(version_ids))
    ids: dict[str, list[str]] = {version_id: [] for version_id in version_ids}
    for link in session.scalars(mine.order_by(VersionFile.version_id, VersionFile.ordinal)):
        ids[link.version_id].append(link.file_id)
    return ids


@dataclass(frozen=True)
class Progress:
    """How far a version's shards are."""

    shards_done: int = 0
    shards_total: int = 0
    conversations_done: int = 0


def progress_of(session: Session, version_ids: Sequence[str]) -> dict[str, Progress]:
    """Counted from the shards of work, inside the database; the plan knows of those that are still to be made.

    A shard that waits at a barrier of the recipe is done, its conversations are not.
    """
    done = Work.state == "done"
    conversations = Work.result["counts", "conversations_in"].as_integer()
    planned = func.max(Work.result["shards"].as_integer()).filter(Work.kind == "plan")
    shard = Work.kind == "curate"
    counted = (
        select(
            Work.subject,
            func.count().filter(done, shard),
            func.count().filter(shard),
            planned,
            func.sum(conversations).filter(done, shard),
        )
        .where(Work.subject.in_(version_ids), Work.kind.in_(("plan", "curate")))
        .group_by(Work.subject)
    )
    found = {
        subject: Progress(num_done, max(num_made, num_planned or 0), int(conversations_done or 0))
        for subject, num_done, num_made, num_planned, conversations_done in session.execute(counted)
    }
    return {version_id: found.get(version_id, Progress()) for version_id in version_ids}


def open_work(session: Session, subject: str) -> list[Work]:
    """Work on a version or job that has not ended."""
    return list(session.scalars(select(Work).where(Work.subject == subject, Work.state.in_(("pending", "leased")))))


def cancel_work(session: Session, subject: str) -> None:
    """Ends what is left to do on a version, however many shards."""
    is_open = (Work.subject == subject, Work.state.in_(("pending", "leased")))
    session.execute(update(Work).where(*is_open).values(state="cancelled"))
