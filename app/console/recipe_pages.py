"""The recipe editor: a form made from what operators say of themselves, tried while it is edited."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.console.marked import mark
from app.console.pages import PageRoute, SignedIn, render
from app.console.samples import first_conversations
from app.console.sessions import check_csrf
from app.datasets import repository
from app.datasets.routes import DatasetId
from app.datasets.schemas import FileId
from app.dependencies import ReadSession
from app.errors import Unprocessable
from app.fields import JsonObject
from app.files.repository import CONVERSATIONS
from app.models import File, LearnedFilter, Lexicon
from app.recipes.service import read_recipe

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)
TRIED = 20
"""Conversations of a file that a recipe is tried on."""


class Trial(BaseModel):
    """A recipe and the file whose first conversations it is tried on."""

    model_config = ConfigDict(extra="forbid")
    recipe: JsonObject
    file: FileId
    skip: int = Field(0, ge=0, le=2**31)


@router.get("/datasets/{dataset_id}/new-version")
def new_version(
    request: Request,
    console: SignedIn,
    dataset_id: DatasetId,
    session: ReadSession,
    file: Annotated[str, Query(max_length=100)] = "",
    like: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Files and a recipe become a version; `like` begins with the recipe and the files of another version."""
    from curation.operator import describe_operators
    from curation.recipe import parse_recipe

    chosen = [file] if file else []
    default = parse_recipe(None).resolved
    recipe = default
    if like:
        recipe = repository.get_version(session, like).recipe
        chosen = repository.file_ids_of(session, [like])[like]
    usable = select(File).where(File.purpose.in_(CONVERSATIONS), File.status != "error")
    described = {one["kind"]: one for one in describe_operators()}
    return render(
        request, "new_version.html.jinja", dataset=repository.get_dataset(session, dataset_id), chosen=chosen,
        files=session.scalars(usable.order_by(File.created_at.desc()).limit(200)).all(), like=like,
        cards=_cards(recipe, default, described), choices=_choices(session),
    )  # fmt: skip


def _cards(
    recipe: dict[str, Any], default: dict[str, Any], described: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The recipe's operators in order, then those that it does not have; each with its fields and their values."""
    usual = {operator["kind"]: operator for operator in default["operators"]}
    given = [(operator["kind"], operator, True) for operator in recipe["operators"]]
    missing = described.keys() - {kind for kind, _, _ in given}
    cards = []
    for kind, values, is_on in (*given, *((kind, usual.get(kind, {}), False) for kind in sorted(missing))):
        about = described[kind]
        fields = [
            {"name": name, "schema": schema, "value": values.get(name, schema.get("default"))}
            for name, schema in about["config_schema"]["properties"].items()
        ]
        cards.append({"is_on": is_on, "is_usual": kind in usual, **about, "fields": fields})
    return cards


def _choices(session: Session) -> dict[str, list[tuple[str, str]]]:
    """What fields that name other things may name: id and name."""
    lexicons = session.scalars(select(Lexicon).order_by(Lexicon.created_at.desc()).limit(100))
    trained = select(LearnedFilter).where(LearnedFilter.status == "succeeded")
    filters = list(session.scalars(trained.order_by(LearnedFilter.created_at.desc()).limit(300)))
    found = {kind: [(row.id, row.name) for row in filters if row.kind == kind] for kind in FILTER_FIELDS}
    return {"lexicons": [(row.id, f"{row.name} · v{row.number}") for row in lexicons], **found}


FILTER_FIELDS = ("classifier", "smoother", "reward_model")


@router.post("/preview")
def preview(
    request: Request,
    console: SignedIn,
    body: Trial,
    session: ReadSession,
    x_csrf_token: Annotated[str, Header()] = "",
) -> Response:
    """What the recipe makes of a file's conversations: before and after, with each change at its place."""
    from curation.preview import PreviewError
    from curation.preview import preview as try_recipe

    check_csrf(request, console, x_csrf_token)
    conversations = first_conversations(session, body.file, TRIED, body.skip)
    try:
        recipe = read_recipe(session, body.recipe)
        made = try_recipe(conversations, recipe, as_of=datetime.now(UTC).date())
    except (Unprocessable, PreviewError) as error:
        wrong = error.detail if isinstance(error, Unprocessable) else str(error)
        return render(request, "parts/preview.html.jinja", wrong=wrong, made=[], warnings=[], skip=body.skip)
    shown = [{**one, "turns": mark(one["original"]["messages"], one["trace"])} for one in made]
    return render(request, "parts/preview.html.jinja", wrong=None, made=shown, warnings=recipe.warnings, skip=body.skip)
