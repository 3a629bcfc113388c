"""What recipes can be made of."""

from typing import Any

from fastapi import APIRouter

from app.auth import needs
from app.dependencies import ListOf
from app.errors import responses

router = APIRouter(prefix="/v1", tags=["recipes"])


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
