"""Conversations below a quantile of their own scores: which ones, and what of the model is part of the recipe."""

from datetime import date
from typing import Any

import pytest
from golden.cases import Points

from curation.errors import RecipeError
from curation.preview import preview
from curation.recipe import parse_recipe, scorer_ids

AS_OF = date(2026, 11, 1)
SCORER = Points((("好", 1.0),))


def talk(points: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答" + "好" * points}]}


def body(**config: Any) -> dict[str, Any]:
    return {"operators": [{"kind": "score_reward", "reward_model": "rm-1", **config}]}


def dropped(points: list[int], min_score: float) -> list[int]:
    recipe = parse_recipe(body(min_score=min_score, action="drop_conversation"), scorers={"rm-1": SCORER})
    made = preview([talk(one) for one in points], recipe, as_of=AS_OF)
    return [one for one, what in zip(points, made, strict=True) if what["dropped"]]


@pytest.mark.parametrize(
    ("points", "min_score", "gone"),
    [
        ([5, 1, 4, 2, 3], 0.0, []),
        ([5, 1, 4, 2, 3], 0.19, []),
        ([5, 1, 4, 2, 3], 0.2, [1]),
        ([5, 1, 4, 2, 3], 0.5, [1, 2]),
        ([5, 1, 4, 2, 3], 0.99, [1, 4, 2, 3]),
        ([2, 1, 1, 1, 2], 0.5, []),
        ([2, 1, 1, 1, 2], 0.6, [1, 1, 1]),
    ],
)
def test_what_is_below_the_quantile_goes_and_draws_stand_together(
    points: list[int], min_score: float, gone: list[int]
) -> None:
    assert dropped(points, min_score) == gone


def test_the_trace_tells_the_score() -> None:
    recipe = parse_recipe(body(min_score=0.5), scorers={"rm-1": SCORER})
    first, second = preview([talk(0), talk(3)], recipe, as_of=AS_OF)
    (row,) = first["trace"]
    assert (row["operator"], row["code"], row["action"], row["score"]) == ("score_reward", "low_score", "flag", 0.0)
    assert second["trace"] == []


def test_an_unknown_model_is_refused_by_its_field() -> None:
    with pytest.raises(RecipeError, match="no trained reward model rm-1") as refused:
        parse_recipe(body())
    assert refused.value.param == "operators[0].reward_model"
    assert scorer_ids(body()) == {"rm-1"}


def test_the_models_digest_is_part_of_the_recipe_and_its_name_is_not() -> None:
    one = parse_recipe(body(), scorers={"rm-1": SCORER}).fingerprint
    named = {"operators": [{"kind": "score_reward", "reward_model": "rm-2"}]}
    assert parse_recipe(named, scorers={"rm-2": SCORER}).fingerprint == one
    assert parse_recipe(body(), scorers={"rm-1": Points((("好", 2.0),))}).fingerprint != one
