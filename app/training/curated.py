"""What a user says in a chat, made as the training data was: by the turn operators of the version that was learned."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.repository import get_version
from app.errors import Unprocessable
from app.recipes.service import read_recipe

Turns = list[dict[str, str]]


@dataclass(frozen=True)
class CuratedTurns:
    """The dialogue as the model is asked it, and every change, as in a version's trace."""

    messages: Turns
    trace: list[dict[str, Any]]


def curate_turns(session: Session, version_id: str, turns: Turns) -> CuratedTurns:
    """Runs the version's operators of turn scope, in its order and with its settings, on a dialogue to be answered.

    Operators of conversation and dataset scope (structure, tags, duplicates, truncation) have no say in what a turn
    says; the model's own truncation follows as ever.

    Raises:
        Unprocessable: nothing is left to be answered, and which operator took it.
    """
    from curation.preview import PreviewError, preview
    from curation.recipe import Recipe

    version = get_version(session, version_id)
    recipe = read_recipe(session, version.recipe)
    of_turns = Recipe(tuple(step for step in recipe.steps if step[0].scope == "turn"))
    try:
        (made,) = preview([{"messages": turns}], of_turns, as_of=date.fromisoformat(version.as_of))
    except PreviewError as error:
        raise Unprocessable(f"messages: {error}", param="messages") from None
    dropped = made["dropped"] or next((row for row in made["trace"] if _takes(row, len(turns) - 1)), None)
    if dropped is not None:
        by = f"{dropped['operator']} ({dropped['code']})"
        detail = f"messages: the curation of {version_id} leaves nothing to be answered: {by} drops the last message"
        raise Unprocessable(detail, param="messages", code="nothing_left")
    messages = [{"role": message["role"], "content": message["content"]} for message in made["curated"]["messages"]]
    return CuratedTurns(messages, made["trace"])


def _takes(row: dict[str, Any], turn: int) -> bool:
    return (row["action"], row["turn"]) == ("drop_turn", turn)
