"""The rule of recipes: one that cannot work is refused, with the place where it is wrong."""

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from app.errors import Unprocessable
from app.filters.repository import filters_by_id, scorers_by_id
from app.lexicons.repository import lexicons_by_id

if TYPE_CHECKING:
    from curation.recipe import Recipe


def read_recipe(session: Session, body: dict[str, Any] | None) -> "Recipe":
    """A request's recipe with the lexicons and learned filters that it names; None is the default one.

    Raises:
        Unprocessable: a recipe that cannot work; `param` names where.
    """
    from curation.errors import RecipeError
    from curation.recipe import filter_ids, lexicon_ids, parse_recipe, scorer_ids

    try:
        lexicons = lexicons_by_id(session, lexicon_ids(body))
        filters, scorers = filters_by_id(session, filter_ids(body)), scorers_by_id(session, scorer_ids(body))
        return parse_recipe(body, lexicons=lexicons, filters=filters, scorers=scorers)
    except RecipeError as error:
        raise Unprocessable(f"recipe: {error}", param=f"recipe.{error.param}", code="invalid_recipe") from None
