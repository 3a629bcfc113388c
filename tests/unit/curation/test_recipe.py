"""Which orders of operators are refused, which carry a warning, and that all others carry none."""

from itertools import product

import pytest
from golden.cases import example_of, joined

from curation.errors import RecipeError
from curation.operator import REGISTRY
from curation.recipe import DEFAULT_ORDER, parse_recipe

KINDS = sorted(REGISTRY)
LAST = "truncate_history"
REFUSED = {(LAST, kind) for kind in KINDS} | {("redact_personal_data", "tag_users")}
"""First and second operator: the second cannot do its work after the first."""
WARNED = {
    **{(kind, "structure_dialogue"): "put it first" for kind in KINDS if kind != LAST},
    **{(kind, kind): "more than once" for kind in KINDS if kind not in (LAST, "classify_text")},
    ("match_sensitive_words", "tag_users"): "cannot read what was masked",
    ("match_sensitive_words", "smooth_disfluency"): "a stutter splits",
    ("redact_personal_data", "smooth_disfluency"): "a filler splits",
    ("deduplicate", "normalize_text"): "become alike only now",
    ("deduplicate", "smooth_disfluency"): "become alike only now",
    ("deduplicate", "redact_personal_data"): "become alike only now",
    ("limit_repeats", "normalize_text"): "become alike only now",
    ("limit_repeats", "smooth_disfluency"): "become alike only now",
    ("limit_repeats", "redact_personal_data"): "become alike only now",
    ("limit_repeats", "deduplicate"): "duplicates were counted",
}


def _warnings(*kinds: str) -> tuple[str, ...]:
    return joined([example_of(kind) for kind in kinds]).warnings


@pytest.mark.parametrize(("first", "second"), list(product(KINDS, KINDS)))
def test_an_order_is_refused_warned_of_or_silent(first: str, second: str) -> None:
    lead = [] if "structure_dialogue" in (first, second) else ["structure_dialogue"]
    order = (*lead, first, second)
    if (first, second) in REFUSED:
        with pytest.raises(RecipeError, match=rf"{second} comes after {first}") as caught:
            _warnings(*order)
        assert caught.value.param == f"operators[{len(lead) + 1}].kind"
        assert caught.value.operator == second
        return
    warnings, expected = _warnings(*order), WARNED.get((first, second))
    if expected is None:
        assert warnings == ()
    else:
        assert any(expected in warning and second in warning for warning in warnings), warnings


def test_an_operator_far_before_counts_too() -> None:
    between = ("structure_dialogue", "redact_personal_data", "normalize_text", "smooth_disfluency", "tag_users")
    with pytest.raises(RecipeError, match="tag_users comes after redact_personal_data"):
        _warnings(*between)
    assert any(
        "tag_users" in one
        for one in _warnings("structure_dialogue", "match_sensitive_words", "normalize_text", "tag_users")
    )


def test_a_recipe_without_structure_says_what_it_keeps() -> None:
    assert [one for one in _warnings("normalize_text") if "without structure_dialogue" in one]
    assert parse_recipe({"operators": []}).warnings


def test_the_default_order_carries_no_warning() -> None:
    recipe = parse_recipe(None)
    assert recipe.warnings == ()
    assert tuple(operator.kind for operator, _, _ in recipe.steps) == DEFAULT_ORDER
