"""The rules of versions: what may become one, and where a finished one's files lie."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
from sqlalchemy.orm import Session

from app.datasets import repository
from app.datasets.schemas import NewVersion, ProgressObject, VersionObject
from app.errors import Conflict, Unprocessable
from app.files.repository import get_file, raw_segments
from app.lexicons.repository import lexicons_by_id
from app.models import Version, VersionFile, new_id
from app.queue import add_work
from app.store import get_store

if TYPE_CHECKING:
    from curation.browse import Folder

FINAL = ("succeeded", "failed", "cancelled")


def create_version(session: Session, dataset_id: str, body: NewVersion) -> Version:
    """Records a version and its plan.

    Raises:
        NotFound: no such dataset or file.
        Unprocessable: a file twice, or a recipe that cannot work; `param` names where.
    """
    from curation.errors import RecipeError
    from curation.recipe import lexicon_ids, parse_recipe

    repository.get_dataset(session, dataset_id)
    if len(set(body.files)) != len(body.files):
        raise Unprocessable("files: each file once", param="files")
    for file_id in body.files:
        get_file(session, file_id)
    try:
        recipe = parse_recipe(body.recipe, lexicons=lexicons_by_id(session, lexicon_ids(body.recipe)))
    except RecipeError as error:
        raise Unprocessable(f"recipe: {error}", param=f"recipe.{error.param}", code="invalid_recipe") from None
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
    if version.status == "cancelled":
        return version
    if version.status in FINAL:
        raise Conflict(f"the version has {version.status} already", code="already_ended")
    version.status, version.finished_at = "cancelled", time.time()
    for work in repository.open_work(session, version_id):
        work.state = "cancelled"
    return version


def show_version(session: Session, version: Version) -> VersionObject:
    """The version as the API tells it."""
    progress = repository.progress_of(session, version.id)
    return VersionObject(
        id=version.id, dataset_id=version.dataset_id, number=version.number, status=version.status,
        digest=version.digest, recipe=version.recipe, recipe_fingerprint=version.recipe_fingerprint,
        as_of=version.as_of, files=[file.id for file in repository.files_of(session, version.id)], note=version.note,
        progress=ProgressObject(**vars(progress)), counts=version.counts, warnings=version.warnings,
        error=version.error, created_at=int(version.created_at),
        finished_at=None if version.finished_at is None else int(version.finished_at),
    )  # fmt: skip


def open_version(session: Session, version_id: str) -> "tuple[Version, Folder]":
    """A finished version's files on this machine.

    Raises:
        NotFound: no such version.
        Conflict: it has not succeeded.
    """
    from curation.browse import Folder

    version = repository.get_version(session, version_id)
    if version.status != "succeeded" or version.manifest_sha256 is None:
        detail = f"the version is {version.status}: its data can be read once it has succeeded"
        raise Conflict(detail, code="not_ready", permanent=version.status in FINAL)
    store = get_store()
    manifest = orjson.loads(store.path(version.manifest_sha256).read_bytes())
    parts = {name: [store.path(part["sha256"]) for part in manifest[name]] for name in ("segments", "dropped", "trace")}
    raw = [
        [store.path(segment.sha256) for segment in raw_segments(session, file.id)]
        for file in repository.files_of(session, version_id)
    ]
    return version, Folder(parts["segments"], parts["dropped"], parts["trace"], raw)
