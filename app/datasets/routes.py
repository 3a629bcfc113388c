"""Datasets, their versions, and everything a version can be asked."""

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from app.auth import needs
from app.datasets import repository, service
from app.datasets.schemas import DatasetChange, DatasetObject, NewDataset, NewVersion, VersionObject
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, Unprocessable, responses
from app.fields import is_current
from app.files.routes import Deleted
from app.models import Dataset, Version, new_id

router = APIRouter(prefix="/v1", tags=["datasets"])
DatasetId = Annotated[str, Path(pattern=r"^ds-[0-9a-f]{24}$")]
VersionId = Annotated[str, Path(pattern=r"^ver-[0-9a-f]{24}$")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Text = Annotated[str | None, Query(max_length=600)]


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
    rows, more = page_of(session, select(Dataset), Dataset, page)
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
    rows, more = page_of(session, select(Version).where(Version.dataset_id == dataset_id), Version, page)
    return ListOf(data=[service.show_version(session, row) for row in rows], has_more=more)


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


@router.get(
    "/versions/{version_id}/conversations", dependencies=[needs("read")], responses=responses(NotFound, Conflict)
)
def list_conversations(
    version_id: VersionId,
    session: ReadSession,
    after: Text = None,
    limit: Limit = 20,
    q: Text = None,
    operator: Text = None,
    code: Text = None,
    province: Text = None,
    gender: Text = None,
    age_band: Text = None,
    crowd: Text = None,
    dropped: bool = False,
) -> ListOf:
    """Conversations as curated, or with dropped=true the removed ones with operator and code; in the input's order."""
    from curation.browse import list_conversations as browse
    from curation.errors import CurationError

    given = {
        "q": q, "operator": operator, "code": code, "province": province, "gender": gender, "age_band": age_band,
        "crowd": crowd,
    }  # fmt: skip
    filters = {name: value for name, value in given.items() if value is not None}
    _, folder = service.open_version(session, version_id)
    try:
        rows, more = browse(folder, after=after, limit=limit, filters=filters, dropped=dropped)
    except CurationError as error:
        raise Unprocessable(str(error)) from None
    return ListOf(data=rows, has_more=more)


@router.get(
    "/versions/{version_id}/conversations/{conversation_id:path}",
    dependencies=[needs("read")],
    responses=responses(NotFound, Conflict),
)
def get_conversation(version_id: VersionId, conversation_id: str, session: ReadSession) -> dict[str, Any]:
    """One conversation: original, curated and every change between them."""
    from curation.browse import get_conversation as browse

    _, folder = service.open_version(session, version_id)
    found = browse(folder, conversation_id)
    if found is None:
        raise NotFound("the version has no such conversation", param="conversation_id")
    return found


@router.get("/versions/{version_id}/trace", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def trace(
    version_id: VersionId,
    session: ReadSession,
    operator: Text = None,
    code: Text = None,
    after: Annotated[int, Query(ge=-1, le=2**53, description="`row` of the last one seen")] = -1,
    limit: Limit = 100,
) -> ListOf:
    """Every change, complete; `row` numbers them."""
    from curation.browse import list_trace

    _, folder = service.open_version(session, version_id)
    rows, more = list_trace(folder, operator=operator, code=code, after=after, limit=limit)
    return ListOf(data=rows, has_more=more)


@router.get(
    "/versions/{version_id}/export",
    response_class=StreamingResponse,
    dependencies=[needs("read")],
    responses=responses(NotFound, Conflict),
)
def export(
    request: Request, version_id: VersionId, session: ReadSession, format: Literal["openai"] = "openai"
) -> Response:
    """The kept rows as JSONL, streamed."""
    from curation.browse import export_lines

    version, folder = service.open_version(session, version_id)
    etag = f'"{version.manifest_sha256}-{format}"'
    if is_current(request, etag):
        return Response(status_code=304, headers={"etag": etag})
    name = f"{version.id}.{format}.jsonl"
    headers = {"content-disposition": f'attachment; filename="{name}"', "etag": etag}
    return StreamingResponse(_joined(export_lines(folder, format)), 200, headers, "application/jsonl")


@router.get(
    "/versions/{version_id}/tags/statistics",
    dependencies=[needs("read")],
    responses=responses(NotFound, Conflict),
    response_model=None,
)
def statistics(
    version_id: VersionId,
    session: ReadSession,
    by: Annotated[list[str], Query(max_length=6)],
    where: Annotated[list[str], Query(max_length=100, description="field:value")] = [],  # noqa: B006
    metric: Annotated[str, Query(max_length=20)] = "conversations",
    format: Literal["json", "csv"] = "json",
) -> dict[str, Any] | Response:
    """Counts by tags, with filters."""
    from curation.errors import CurationError
    from curation.statistics import tag_statistics

    if not all(":" in condition for condition in where):
        raise Unprocessable("where: field:value, as in province:四川省", param="where")
    conditions = [(field, value) for field, _, value in (condition.partition(":") for condition in where)]
    version, folder = service.open_version(session, version_id)
    tokenizer = next((op["tokenizer"] for op in version.recipe["operators"] if "tokenizer" in op), None)
    try:
        answer = tag_statistics(folder.segments, by=by, where=conditions, metric=metric, tokenizer=tokenizer)
    except CurationError as error:
        raise Unprocessable(str(error), param="by") from None
    if format == "json":
        return answer
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*by, "value", "share"])
    writer.writeheader()
    writer.writerows(answer["rows"])
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8")


def _joined(lines: Iterable[bytes], size: int = 1 << 16) -> Iterable[bytes]:
    """Lines in chunks worth a write."""
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= size:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)
