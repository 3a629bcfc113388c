"""What recipes can be made of, and what one makes of a few conversations."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.auth import needs
from app.dependencies import ListOf, ReadSession
from app.errors import Unprocessable, responses
from app.fields import JsonObject
from app.once import OnceRoute
from app.recipes.service import read_recipe

router = APIRouter(prefix="/v1", tags=["recipes"], route_class=OnceRoute)


class PreviewRequest(BaseModel):
    """A recipe, null for the default one, and conversations of the `messages` form."""

    model_config = ConfigDict(extra="forbid")
    recipe: JsonObject | None = None
    conversations: Annotated[list[Any], Field(max_length=100)]


class Change(BaseModel):
    """A row of the trace."""

    conversation_id: str
    turn: int | None
    operator: str
    code: str
    action: str
    before: str | None
    after: str | None
    start: int | None
    end: int | None
    score: float | None


class Why(BaseModel):
    """What removed a conversation."""

    operator: str
    code: str


class Previewed(BaseModel):
    """A conversation before and after."""

    original: dict[str, Any]
    curated: dict[str, Any] | None
    windows: list[dict[str, Any]] | None
    trace: list[Change]
    dropped: Why | None


class Preview(BaseModel):
    """What a recipe made of each conversation, in the order sent."""

    conversations: list[Previewed]
    warnings: list[str]


@router.get("/operators", dependencies=[needs("read")], responses=responses())
def operators() -> ListOf:
    """Every operator: kind, version, scope, the JSON Schema of its config, its codes."""
    from curation.operator import describe_operators

    return ListOf(data=describe_operators(), has_more=False)


@router.get("/recipes/default", dependencies=[needs("read")], responses=responses())
def default() -> dict[str, Any]:
    """The recipe that runs when a version names none, with every default filled in."""
    from curation.recipe import parse_recipe

    return parse_recipe(None).resolved


@router.post("/recipes/preview", dependencies=[needs("read")], responses=responses())
def preview(body: PreviewRequest, session: ReadSession) -> Preview:
    """Runs a recipe on up to 100 conversations at once and stores nothing."""
    from curation.preview import PreviewError
    from curation.preview import preview as try_recipe

    recipe = read_recipe(session, body.recipe)
    try:
        made = try_recipe(body.conversations, recipe, as_of=datetime.now(UTC).date())
    except PreviewError as error:
        raise Unprocessable(str(error), param=error.param, code="invalid_value") from None
    return Preview(conversations=[Previewed(**one) for one in made], warnings=list(recipe.warnings))
