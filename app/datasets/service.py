"""The rules of versions: what may become one, and where a finished one's files lie."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import orjson
from sqlalchemy.orm import Session

from app.datasets import repository
from app.datasets.schemas import NewVersion, ProgressObject, VersionObject
from app.errors import Conflict, Unprocessable
from app.files.repository import CONVERSATIONS, get_file, raw_segments
from app.models import FINAL, Version, VersionFile, new_id
from app.queue import add_work
from app.recipes.service import read_recipe
from app.store import get_store
from app.training.waiting import version_ended

if TYPE_CHECKING:
    import polars as pl

    from curation.browse import Folder


class BlobPaths(Sequence[Path]):
    """Local paths of blobs; a blob is fetched when its path is asked for, so a page costs only what it touches."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "BlobPaths": ...
    def __getitem__(self, index: int | slice) -> "Path | BlobPaths":
        if isinstance(index, slice):
            return BlobPaths(self._names[index])
        return get_store().path(self._names[index])


def create_version(session: Session, dataset_id: str, body: NewVersion) -> Version:
    """Records a version and its plan.

    Raises:
        NotFound: no such dataset or file.
        Unprocessable: a file twice, or a recipe that cannot work; `param` names where.
    """
    repository.get_dataset(session, dataset_id)
    if len(set(body.files)) != len(body.files):
        raise Unprocessable("files: each file once", param="files")
    for index, file_id in enumerate(body.files):
        if (purpose := get_file(session, file_id).purpose) not in CONVERSATIONS:
            detail = f"files[{index}]: the file's purpose is {purpose}, a version is made from conversations"
            raise Unprocessable(detail, param=f"files[{index}]")
    recipe = read_recipe(session, body.recipe)
    version = Version(
        id=new_id("ver"), dataset_id=dataset_id, number=repository.next_number(session, dataset_id), status="queued",
        recipe=recipe.resolved, recipe_fingerprint=recipe.fingerprint, as_of=datetime.now(UTC).date().isoformat(),
        note=body.note, counts={}, warnings=list(recipe.warnings),
    )  # fmt: skip
    session.add(version)
    session.flush()
    session.add_all(
        VersionFile(version_id=version.id, ordinal=ordinal, file_id=file_id)
        for ordinal, file_id in enumerate(body.files)
    )
    add_work(session, "plan", version.id)
    session.flush()
    return version


def cancel_version(session: Session, version_id: str) -> Version:
    """Ends a version's work; one that has ended already stays as it is.

    Raises:
        Conflict: the version has ended otherwise.
    """
    version = repository.get_version(session, version_id)
    session.refresh(version, with_for_update=True)  # as the workers do: whoever is first decides
    if version.status == "cancelled":
        return version
    if version.status in FINAL:
        raise Conflict(f"the version has {version.status} already", code="already_ended")
    version.status, version.finished_at = "cancelled", time.time()
    repository.cancel_work(session, version_id)
    version_ended(session, version)
    return version


def show_version(session: Session, version: Version) -> VersionObject:
    """The version as the API tells it."""
    return show_versions(session, [version])[0]


def show_versions(session: Session, versions: Sequence[Version]) -> list[VersionObject]:
    """Versions as the API tells them."""
    ids = [version.id for version in versions]
    progress, files = repository.progress_of(session, ids), repository.file_ids_of(session, ids)
    return [
        VersionObject(
            id=version.id, dataset_id=version.dataset_id, number=version.number, status=version.status,
            digest=version.digest, recipe=version.recipe, recipe_fingerprint=version.recipe_fingerprint,
            as_of=version.as_of, files=files[version.id], note=version.note,
            progress=ProgressObject(**vars(progress[version.id])), counts=version.counts, warnings=version.warnings,
            error=version.error, created_at=int(version.created_at),
            finished_at=None if version.finished_at is None else int(version.finished_at),
        )
        for version in versions
    ]  # fmt: skip


def open_version(session: Session, version_id: str) -> "tuple[Version, Folder]":
    """A finished version's files on this machine.

    Raises:
        NotFound: no such version.
        Conflict: it has not succeeded.
    """
    from curation.browse import Folder

    version, manifest = open_manifest(session, version_id)
    segments, dropped, trace = (
        BlobPaths([part["sha256"] for part in manifest[name]]) for name in ("segments", "dropped", "trace")
    )
    files = repository.files_of(session, version_id)
    raw = BlobPaths([segment.sha256 for file in files for segment in raw_segments(session, file.id)])
    return version, Folder(segments, dropped, trace, raw, [op["kind"] for op in version.recipe["operators"]])


def open_manifest(session: Session, version_id: str) -> tuple[Version, dict[str, Any]]:
    """A finished version and its manifest.

    Raises:
        NotFound: no such version.
        Conflict: it has not succeeded.
    """
    version = repository.get_version(session, version_id)
    if version.status != "succeeded" or version.manifest_sha256 is None:
        detail = f"the version {version.id} is {version.status}: its data can be read once it has succeeded"
        raise Conflict(detail, code="not_ready", permanent=version.status in FINAL)
    return version, _manifest(version.manifest_sha256)


def tag_counts(session: Session, version_id: str) -> "pl.DataFrame | None":
    """A finished version's conversations counted by tags; None for one that was closed before there were such counts.

    Raises:
        NotFound: no such version.
        Conflict: it has not succeeded.
    """
    _, manifest = open_manifest(session, version_id)
    return _tag_counts(manifest["tags"]["sha256"]) if "tags" in manifest else None


@lru_cache(maxsize=8)
def _manifest(sha256: str) -> dict[str, Any]:
    manifest: dict[str, Any] = orjson.loads(get_store().path(sha256).read_bytes())
    return manifest


@lru_cache(maxsize=8)
def _tag_counts(sha256: str) -> "pl.DataFrame":
    import polars as pl

    return pl.read_parquet(get_store().path(sha256))
