"""What a finished version can be asked: its conversations, trace, differences, exports, report and statistics."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from app.auth import needs
from app.datasets import repository, service
from app.datasets.report import render_html, render_markdown
from app.datasets.routes import VersionId
from app.datasets.schemas import DiffObject, ParquetList, ParquetPart
from app.datasets.token_counts import token_counts
from app.dependencies import ListOf, ReadSession
from app.downloads import signed_url
from app.errors import Conflict, NotFound, Unprocessable, responses
from app.fields import is_current

router = APIRouter(prefix="/v1/versions/{version_id}", tags=["versions"])
Limit = Annotated[int, Query(ge=1, le=1000)]
Text = Annotated[str | None, Query(max_length=600)]
READABLE = responses(NotFound, Conflict)
EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/jsonl": {}, "application/vnd.apache.parquet": {}}}
}
REPORTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/html": {}, "text/markdown": {}}}
}


@router.get("/conversations", dependencies=[needs("read")], responses=READABLE)
def list_conversations(
    version_id: VersionId,
    session: ReadSession,
    after: Text = None,
    limit: Limit = 20,
    q: Text = None,
    operator: Text = None,
    code: Text = None,
    province: Text = None,
    city: Text = None,
    gender: Text = None,
    age_band: Text = None,
    crowd: Text = None,
    dropped: bool = False,
) -> ListOf:
    """Conversations as curated, or with dropped=true the removed ones with operator and code; in the input's order.

    All filters must hold. `q` is text in any message; for removed ones in the message as it came in.
    """
    from curation.browse import list_conversations as browse

    filters = _given(
        q=q, operator=operator, code=code, province=province, city=city, gender=gender, age_band=age_band, crowd=crowd
    )
    _, folder = service.open_version(session, version_id)
    with _filters_checked():
        rows, more = browse(folder, after=after, limit=limit, filters=filters, dropped=dropped)
    return ListOf(data=rows, has_more=more)


@router.get("/conversations/{conversation_id:path}", dependencies=[needs("read")], responses=READABLE)
def get_conversation(version_id: VersionId, conversation_id: str, session: ReadSession) -> dict[str, Any]:
    """One conversation: original, curated and every change between them."""
    from curation.browse import get_conversation as browse

    _, folder = service.open_version(session, version_id)
    found = browse(folder, conversation_id)
    if found is None:
        raise NotFound("the version has no such conversation", param="conversation_id")
    return found


@router.get("/trace", dependencies=[needs("read")], responses=READABLE)
def trace(
    version_id: VersionId,
    session: ReadSession,
    operator: Text = None,
    code: Text = None,
    action: Text = None,
    conversation_id: Text = None,
    after: Annotated[int, Query(ge=-1, le=2**53, description="`row` of the last one seen")] = -1,
    limit: Limit = 100,
) -> ListOf:
    """Every change, complete; `row` numbers them."""
    from curation.browse import list_trace

    filters = _given(operator=operator, code=code, action=action, conversation_id=conversation_id)
    _, folder = service.open_version(session, version_id)
    with _filters_checked():
        rows, more = list_trace(folder, filters=filters, after=after, limit=limit)
    return ListOf(data=rows, has_more=more)


@router.get("/diff", dependencies=[needs("read")], responses=READABLE)
def diff(
    version_id: VersionId,
    session: ReadSession,
    against: Annotated[str, Query(pattern=r"^ver-[0-9a-f]{24}$", description="the version to compare with")],
    change: Text = None,
    after: Annotated[str | None, Query(max_length=600, description="id of the last conversation seen")] = None,
    limit: Limit = 20,
) -> DiffObject:
    """What this version holds otherwise than the one it is compared `against`: added, removed, changed conversations.

    Each comes with both sides and the operators whose trace differs. The versions may be of different datasets.
    """
    from curation.diff import diff_counts, diff_recipes, diff_versions

    version, mine = service.open_version(session, version_id)
    other, theirs = service.open_version(session, against)
    with _filters_checked():
        found = diff_versions(theirs, mine, last=after, limit=limit, change=change)
    return DiffObject(
        version=version.id, against=other.id, counts=found.counts, recipe=diff_recipes(other.recipe, version.recipe),
        version_counts=diff_counts(other.counts, version.counts), data=found.conversations, has_more=found.has_more,
    )  # fmt: skip


@router.get("/export", response_class=StreamingResponse, dependencies=[needs("read")], responses=READABLE | EXPORTED)
def export(
    request: Request,
    version_id: VersionId,
    session: ReadSession,
    format: Literal["openai", "sharegpt", "alpaca", "parquet"] = "openai",
) -> Response:
    """The kept rows in a form that other tools open, streamed."""
    from curation.exports import MEDIA_TYPES, export_version

    version, folder = service.open_version(session, version_id)
    etag = f'"{version.manifest_sha256}-{format}"'
    if is_current(request, etag):
        return Response(status_code=304, headers={"etag": etag})
    name = f"{version.id}.parquet" if format == "parquet" else f"{version.id}.{format}.jsonl"
    headers = {"content-disposition": f'attachment; filename="{name}"', "etag": etag}
    return StreamingResponse(export_version(folder.segments, format), 200, headers, MEDIA_TYPES[format])


@router.get("/parquet", dependencies=[needs("read")], responses=READABLE)
def parquet(request: Request, version_id: VersionId, session: ReadSession) -> ParquetList:
    """The version's Parquet files, one row a kept conversation or window; each URL opens without a key for an hour."""
    version, manifest = service.open_manifest(session, version_id)
    base_url = str(request.base_url)
    return ParquetList(
        data=[
            ParquetPart(
                url=signed_url(
                    session, base_url, part["sha256"], part["bytes"], f"{version.id}-{ordinal:05d}.parquet"
                ),
                rows=part["rows"], sha256=part["sha256"], bytes=part["bytes"],
            )
            for ordinal, part in enumerate(manifest["segments"])
        ]
    )  # fmt: skip


@router.get("/report", dependencies=[needs("read")], responses=READABLE | REPORTED, response_model=None)
def report(
    request: Request, version_id: VersionId, session: ReadSession, format: Literal["json", "html", "md"] = "json"
) -> dict[str, Any] | Response:
    """The version's story on one page: what came in, what each operator did, with examples, and what is left."""
    from curation.report import build_report

    version, folder = service.open_version(session, version_id)
    etag = f'"{version.manifest_sha256}-report-{format}"'
    if is_current(request, etag):
        return Response(status_code=304, headers={"etag": etag})
    shown = service.show_version(session, version).model_dump(exclude={"progress", "warnings"})
    files = [
        {"id": file.id, "filename": file.filename, "format": file.format, "counts": file.counts}
        for file in repository.files_of(session, version_id)
    ]
    told = {"object": "dataset.version.report", "version": shown, "files": files, "warnings": version.warnings}
    told |= build_report(folder, version.counts)
    if format == "json":
        return JSONResponse(told, headers={"etag": etag})
    render, media_type = (render_html, "text/html") if format == "html" else (render_markdown, "text/markdown")
    return Response(render(told), headers={"etag": etag}, media_type=f"{media_type}; charset=utf-8")


@router.get("/tags/statistics", dependencies=[needs("read")], responses=READABLE, response_model=None)
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
    from curation.statistics import FIELDS, METRICS, tag_statistics

    if not all(":" in condition for condition in where):
        raise Unprocessable("where: field:value, as in province:四川省", param="where")
    conditions = [(field, value) for field, _, value in (condition.partition(":") for condition in where)]
    version, folder = service.open_version(session, version_id)
    tokenizer = next((op["tokenizer"] for op in version.recipe["operators"] if "tokenizer" in op), None)
    counts = service.tag_counts(session, version_id)
    if metric == "tokens":
        counts = token_counts(service.open_manifest(session, version_id)[1], tokenizer)
    try:
        answer = tag_statistics(
            folder.segments, by=by, where=conditions, metric=metric, tokenizer=tokenizer, counts=counts,
            traces=folder.trace,
        )  # fmt: skip
    except CurationError as error:
        wrong_where = any(field not in FIELDS for field, _ in conditions)
        param = "metric" if metric not in METRICS else "where" if wrong_where else "by"
        raise Unprocessable(str(error), param=param, code="invalid_value") from None
    if format == "json":
        return answer
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*by, "value", "share"])
    writer.writeheader()
    writer.writerows(answer["rows"])
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8")


@router.get("/tags/users", dependencies=[needs("read")], responses=READABLE)
def users(
    version_id: VersionId,
    session: ReadSession,
    after: Annotated[str | None, Query(max_length=600, description="id of the last user seen")] = None,
    limit: Limit = 20,
    conflicts: Annotated[bool, Query(description="only users of whom a value lost or a crowd was left")] = False,
) -> ListOf:
    """What metric=users counts: the tags of each user with an id, where each comes from, and what lost against it."""
    from curation.users import list_users

    _, folder = service.open_version(session, version_id)
    rows, more = list_users(folder.segments, folder.trace, after=after, limit=limit, conflicts=conflicts)
    return ListOf(data=rows, has_more=more)


def _given(**filters: str | None) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


@contextmanager
def _filters_checked() -> Iterator[None]:
    """A filter that nothing can match is the request's mistake."""
    from curation.browse import FilterError

    try:
        yield
    except FilterError as error:
        raise Unprocessable(str(error), param=error.field, code="invalid_value") from None
