"""Datasets and their versions."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from app.auth import needs
from app.datasets import repository, service
from app.datasets.schemas import DatasetChange, DatasetObject, NewDataset, NewVersion, VersionObject
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.fields import is_current
from app.files.routes import Deleted
from app.models import Dataset, Version, new_id
from app.once import OnceRoute

router = APIRouter(prefix="/v1", tags=["datasets"], route_class=OnceRoute)
DatasetId = Annotated[str, Path(pattern=r"^ds-[0-9a-f]{24}$")]
VersionId = Annotated[str, Path(pattern=r"^ver-[0-9a-f]{24}$")]


def show(dataset: Dataset) -> DatasetObject:
    """The dataset as the API tells it."""
    return DatasetObject(
        id=dataset.id, name=dataset.name, description=dataset.description, created_at=int(dataset.created_at)
    )


@router.post("/datasets", status_code=201, dependencies=[needs("curate")], responses=responses())
def create_dataset(body: NewDataset, session: WriteSession) -> DatasetObject:
    """Makes an empty dataset."""
    dataset = Dataset(id=new_id("ds"), name=body.name, description=body.description)
    session.add(dataset)
    session.flush()
    return show(dataset)


@router.get("/datasets", dependencies=[needs("read")], responses=responses(NotFound))
def list_datasets(session: ReadSession, page: Paged) -> ListOf:
    """All datasets, the newest first."""
    rows, more = page_of(session, repository.datasets(), Dataset, page)
    return ListOf(data=[show(row) for row in rows], has_more=more)


@router.get("/datasets/{dataset_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get_dataset(dataset_id: DatasetId, session: ReadSession) -> DatasetObject:
    """One dataset."""
    return show(repository.get_dataset(session, dataset_id))


@router.patch("/datasets/{dataset_id}", dependencies=[needs("curate")], responses=responses(NotFound))
def change_dataset(dataset_id: DatasetId, body: DatasetChange, session: WriteSession) -> DatasetObject:
    """Changes name or description."""
    dataset = repository.get_dataset(session, dataset_id)
    if body.name is not None:
        dataset.name = body.name
    if "description" in body.model_fields_set:
        dataset.description = body.description
    return show(dataset)


@router.delete("/datasets/{dataset_id}", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def delete_dataset(dataset_id: DatasetId, session: WriteSession) -> Deleted:
    """Deletes a dataset that has no versions."""
    dataset = repository.get_dataset(session, dataset_id)
    if repository.has_versions(session, dataset_id):
        raise Conflict("the dataset has versions, which never go away", code="dataset_in_use")
    session.delete(dataset)
    return Deleted(id=dataset_id, object="dataset")


@router.post(
    "/datasets/{dataset_id}/versions", status_code=202, dependencies=[needs("curate")], responses=responses(NotFound)
)
def create_version(dataset_id: DatasetId, body: NewVersion, session: WriteSession) -> VersionObject:
    """Has files curated into a new version; poll it until it has ended."""
    return service.show_version(session, service.create_version(session, dataset_id, body))


@router.get("/datasets/{dataset_id}/versions", dependencies=[needs("read")], responses=responses(NotFound))
def list_versions(dataset_id: DatasetId, session: ReadSession, page: Paged) -> ListOf:
    """A dataset's versions, the newest first."""
    repository.get_dataset(session, dataset_id)
    rows, more = page_of(session, repository.versions_of(dataset_id), Version, page)
    return ListOf(data=service.show_versions(session, rows), has_more=more)


@router.get(
    "/versions/{version_id}", dependencies=[needs("read")], responses=responses(NotFound), response_model=VersionObject
)
def get_version(version_id: VersionId, session: ReadSession, request: Request, response: Response) -> Any:
    """One version; once it succeeded it carries a strong ETag."""
    version = repository.get_version(session, version_id)
    if version.status == "succeeded":
        etag = f'"{version.manifest_sha256}"'
        if is_current(request, etag):
            return Response(status_code=304, headers={"etag": etag})
        response.headers["etag"] = etag
    return service.show_version(session, version)


@router.post("/versions/{version_id}/cancel", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def cancel_version(version_id: VersionId, session: WriteSession) -> VersionObject:
    """Ends a version that is not finished."""
    return service.show_version(session, service.cancel_version(session, version_id))
