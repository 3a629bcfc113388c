"""Selects of datasets and versions."""

from dataclasses import dataclass

from sqlalchemy import func, select
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


def files_of(session: Session, version_id: str) -> list[File]:
    """The version's files, in the request's order."""
    joined = select(File).join(VersionFile, VersionFile.file_id == File.id)
    return list(session.scalars(joined.where(VersionFile.version_id == version_id).order_by(VersionFile.ordinal)))


@dataclass(frozen=True)
class Progress:
    """How far a version's shards are."""

    shards_done: int
    shards_total: int
    conversations_done: int


def progress_of(session: Session, version_id: str) -> Progress:
    """Counted from the shards of work."""
    shards = session.scalars(select(Work).where(Work.subject == version_id, Work.kind == "curate")).all()
    results = [shard.result for shard in shards if shard.state == "done" and shard.result]
    return Progress(len(results), len(shards), sum(result["counts"]["conversations_in"] for result in results))


def open_work(session: Session, subject: str) -> list[Work]:
    """Work on a version or job that has not ended."""
    return list(session.scalars(select(Work).where(Work.subject == subject, Work.state.in_(("pending", "leased")))))
