"""Recipes: which operators run, in which order, with which settings.

A recipe that cannot work is refused with the operator and field named; one that may surprise carries warnings.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import orjson
from pydantic import ValidationError

import curation.operators  # noqa: F401  (registers the operators)
from curation.errors import RecipeError
from curation.mixer import Step
from curation.operator import REGISTRY, Lexicon, Operator, OperatorConfig, Resources
from curation.operators.match_sensitive_words import builtin_lexicon

DEFAULT_ORDER = (
    "structure_dialogue",
    "normalize_text",
    "smooth_disfluency",
    "tag_users",
    "match_sensitive_words",
    "truncate_history",
)
MAX_OPERATORS = 50


@dataclass(frozen=True)
class Recipe:
    """A recipe that can run."""

    steps: tuple[tuple[Operator, OperatorConfig, tuple[Lexicon, ...]], ...]
    warnings: tuple[str, ...] = ()

    @property
    def resolved(self) -> dict[str, Any]:
        """The recipe with every default filled in, as JSON."""
        return {"operators": [{"kind": op.kind, **config.model_dump(mode="json")} for op, config, _ in self.steps]}

    @property
    def fingerprint(self) -> str:
        """Hash of what the recipe does: operators' versions, configs, contents of lexicons; their ids do not count."""
        parts = [
            [op.kind, op.version, config.model_dump(mode="json", exclude={"lexicons"}), [_content(x) for x in lexicons]]
            for op, config, lexicons in self.steps
        ]
        return f"sha256:{hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()}"

    @property
    def bounds(self) -> dict[str, Any] | None:
        """Lengths that `truncate_history` keeps to; None without it."""
        for op, config, _ in self.steps:
            if op.kind == "truncate_history":
                fields = {"max_source_length", "max_target_length", "mode", "tokenizer"}
                return config.model_dump(mode="json", include=fields)
        return None

    def bind(self, as_of: date) -> list[Step]:
        """The steps, ready to run on conversations of a version made on `as_of`."""
        return [Step(op, config, Resources(as_of, lexicons)) for op, config, lexicons in self.steps]


def default_recipe() -> dict[str, Any]:
    """What runs when a version names no recipe."""
    return {"operators": [{"kind": kind} for kind in DEFAULT_ORDER]}


def lexicon_ids(body: Mapping[str, Any] | None) -> set[str]:
    """Ids of the lexicons that a recipe names."""
    operators = (body or {}).get("operators")
    if not isinstance(operators, list):
        return set()
    lists = [item.get("lexicons") for item in operators if isinstance(item, dict)]
    return {name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)}


def parse_recipe(body: Mapping[str, Any] | None, *, lexicons: Mapping[str, Lexicon] | None = None) -> Recipe:
    """Reads a recipe; None is the default one. `lexicons` holds those that it names, by id.

    Raises:
        RecipeError: an unknown operator, field or lexicon, a wrong value, or an order that cannot work.
    """
    body = default_recipe() if body is None else body
    if not isinstance(body, Mapping) or not isinstance(body.get("operators"), list) or set(body) != {"operators"}:
        raise RecipeError("a recipe is an object with the one member `operators`, a list")
    if len(body["operators"]) > MAX_OPERATORS:
        raise RecipeError(f"a recipe has at most {MAX_OPERATORS} operators")
    steps = tuple(_parse_step(item, index, lexicons or {}) for index, item in enumerate(body["operators"]))
    recipe = Recipe(steps)
    return replace(recipe, warnings=tuple(_check_order([op.kind for op, _, _ in steps])))


def _parse_step(
    item: object, index: int, known: Mapping[str, Lexicon]
) -> tuple[Operator, OperatorConfig, tuple[Lexicon, ...]]:
    if not isinstance(item, Mapping) or not isinstance(item.get("kind"), str):
        raise RecipeError(f"operator {index} must be an object with a `kind`", index=index, field="kind")
    op = REGISTRY.get(item["kind"])
    if op is None:
        message = f"operator {index} has an unknown kind: known are {', '.join(sorted(REGISTRY))}"
        raise RecipeError(message, index=index, field="kind")
    try:
        config = op.config.model_validate({key: value for key, value in item.items() if key != "kind"}, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or None
        message = f"{op.kind}: {field or 'config'}: {first['msg']}"
        raise RecipeError(message, index=index, operator=op.kind, field=field) from None
    return op, config, _lexicons_of(op, config, index, known)


def _lexicons_of(op: Operator, config: OperatorConfig, index: int, known: Mapping[str, Lexicon]) -> tuple[Lexicon, ...]:
    if op.kind != "match_sensitive_words":
        return ()
    names: tuple[str, ...] = getattr(config, "lexicons", ())
    for name in names:
        if name not in known:
            message = f"{op.kind}: there is no lexicon {name}"
            raise RecipeError(message, index=index, operator=op.kind, field="lexicons")
    if not names and not getattr(config, "words", ()):
        return (builtin_lexicon(),)
    return tuple(known[name] for name in names)


def _check_order(kinds: list[str]) -> list[str]:
    """Warnings about an order; raises where it cannot work."""
    warnings = []
    for index, kind in enumerate(kinds):
        before = kinds[:index]
        if "truncate_history" in before:
            message = f"{kind} comes after truncate_history, which must be the last: its windows are final"
            raise RecipeError(message, index=index, operator=kind, field="kind")
        if kind == "structure_dialogue" and before:
            warnings.append(f"structure_dialogue comes after {before[-1]}: put it first, others rely on its turns")
        if kind == "tag_users" and "match_sensitive_words" in before:
            warnings.append("tag_users comes after match_sensitive_words: it cannot read what was masked")
        if kind in before:
            warnings.append(f"{kind} runs more than once")
    if "structure_dialogue" not in kinds:
        warnings.append("without structure_dialogue, conversations without a reply are kept")
    return warnings


def _content(lexicon: Lexicon) -> list[Any]:
    return [sorted(lexicon.words), sorted(lexicon.allow), lexicon.category]
