"""A version: its progress and funnel, its conversations, one conversation with every change, tags, differences."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.console import overview
from app.console.marked import mark
from app.console.pages import PageRoute, SignedIn, render
from app.datasets import repository, service
from app.datasets.routes import VersionId
from app.dependencies import ReadSession
from app.errors import NotFound, Unprocessable
from app.models import FINAL, Job, Version

router = APIRouter(prefix="/console/versions/{version_id}", route_class=PageRoute, include_in_schema=False)
Text = Annotated[str, Query(max_length=600)]
PAGE = 20


def _about(session: Session, version_id: str) -> dict[str, Any]:
    """What every page of a version says above."""
    version = repository.get_version(session, version_id)
    return {
        "version": service.show_version(session, version),
        "dataset": repository.get_dataset(session, version.dataset_id),
        "is_final": version.status in FINAL,
    }


@router.get("")
def version(request: Request, console: SignedIn, version_id: VersionId, session: ReadSession) -> Response:
    """Progress while it is made; then what went in, what each operator did, and what was kept."""
    about = _about(session, version_id)
    learned_by = or_(Job.version_id == version_id, Job.validation_version_id == version_id)
    others = select(Version).where(
        Version.dataset_id == about["dataset"].id, Version.id != version_id, Version.status == "succeeded"
    )
    return render(
        request, "version.html.jinja", **about, files=repository.files_of(session, version_id),
        jobs=session.scalars(select(Job).where(learned_by).order_by(Job.created_at.desc()).limit(50)).all(),
        others=session.scalars(others.order_by(Version.number.desc()).limit(100)).all(), name_of=overview.name_of_job,
        funnel=_funnel(about["version"].counts, about["version"].recipe),
    )  # fmt: skip


@router.get("/progress")
def progress(request: Request, console: SignedIn, version_id: VersionId, session: ReadSession) -> Response:
    """The part that is asked for again until the version has ended; then the page is."""
    about = _about(session, version_id)
    answer = render(request, "parts/version_progress.html.jinja", **about)
    if about["is_final"]:
        answer.headers["hx-refresh"] = "true"
    return answer


def _funnel(counts: dict[str, Any], recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """What was left behind each operator, in the recipe's order, and what it did by code."""
    left, steps = counts.get("conversations_in", 0), []
    for kind in dict.fromkeys(operator["kind"] for operator in recipe["operators"]):
        did = counts.get("by_operator", {}).get(kind)
        if did is None:
            continue
        left -= did["dropped_conversations"]
        codes = sorted(did["codes"].items(), key=lambda pair: -pair[1])
        steps.append({"kind": kind, **did, "codes": codes, "left": left})
    return steps


@router.get("/conversations")
def conversations(
    request: Request,
    console: SignedIn,
    version_id: VersionId,
    session: ReadSession,
    after: Text = "",
    q: Text = "",
    operator: Text = "",
    code: Text = "",
    province: Text = "",
    gender: Text = "",
    age_band: Text = "",
    crowd: Text = "",
    dropped: bool = False,
) -> Response:
    """Conversations as curated, or the removed ones, narrowed by what they say, what changed them and by tags."""
    from curation.browse import AGE_BANDS, GENDERS, FilterError
    from curation.browse import list_conversations as browse

    about = _about(session, version_id)
    tags = {"province": province, "gender": gender, "age_band": age_band, "crowd": crowd}
    asked = {"q": q, "operator": operator, "code": code, **({} if dropped else tags)}
    filters = {name: value.strip() for name, value in asked.items() if value.strip()}
    _, folder = service.open_version(session, version_id)
    try:
        rows, more = browse(folder, after=after or None, limit=PAGE, filters=filters, dropped=dropped)
    except FilterError as error:
        raise Unprocessable(str(error), param=error.field, code="invalid_value") from None
    by_operator = about["version"].counts.get("by_operator", {})
    codes = sorted({name for did in by_operator.values() for name in did["codes"]})
    template = "parts/conversation_rows.html.jinja" if "hx-request" in request.headers else "conversations.html.jinja"
    return render(
        request, template, **about, rows=rows, has_more=more, filters=filters, dropped=dropped, after=after,
        operators=list(by_operator), codes=codes, age_bands=AGE_BANDS, genders=GENDERS,
    )  # fmt: skip


@router.get("/conversations/{conversation_id:path}")
def conversation(
    request: Request, console: SignedIn, version_id: VersionId, conversation_id: str, session: ReadSession
) -> Response:
    """One conversation: before, after, and every row of its trace at its place."""
    from curation.browse import get_conversation as browse

    about = _about(session, version_id)
    _, folder = service.open_version(session, version_id)
    found = browse(folder, conversation_id)
    if found is None:
        raise NotFound("the version has no such conversation")
    return render(
        request, "conversation.html.jinja", **about, found=found,
        turns=mark(found["original"]["messages"], found["trace"]),
        tags=[row for row in found["trace"] if row["action"] == "tag"],
        whole=[row for row in found["trace"] if row["turn"] is None and row["action"] != "tag"],
    )  # fmt: skip


@router.get("/tags")
def tags(request: Request, console: SignedIn, version_id: VersionId, session: ReadSession) -> Response:
    """Charts of the users' tags, one or two at a time."""
    from curation.statistics import FIELDS, METRICS

    service.open_manifest(session, version_id)
    return render(request, "tags.html.jinja", **_about(session, version_id), fields=FIELDS, metrics=METRICS)


@router.get("/diff")
def diff(
    request: Request,
    console: SignedIn,
    version_id: VersionId,
    session: ReadSession,
    against: Annotated[str, Query(pattern=r"^ver-[0-9a-f]{24}$")],
    change: Text = "",
    after: Text = "",
) -> Response:
    """What this version holds otherwise than another one."""
    from curation.browse import FilterError
    from curation.diff import diff_recipes, diff_versions

    mine, folder = service.open_version(session, version_id)
    other, others_folder = service.open_version(session, against)
    try:
        found = diff_versions(others_folder, folder, last=after or None, limit=PAGE, change=change or None)
    except FilterError as error:
        raise Unprocessable(str(error), param=error.field, code="invalid_value") from None
    return render(
        request, "diff.html.jinja", **_about(session, version_id), other=other, change=change, found=found,
        other_name=overview.names_of(session, [other])[other.id], recipe=diff_recipes(other.recipe, mine.recipe),
    )  # fmt: skip
