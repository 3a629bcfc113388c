"""Recipes: which operators run, in which order, with which settings.

A recipe that cannot work is refused with the operator and field named; one that may surprise carries warnings.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, cast

import orjson
from pydantic import ValidationError

from curation.classifier import ClassifierRef
from curation.errors import RecipeError
from curation.mixer import Step
from curation.operator import REGISTRY, Lexicon, Operator, OperatorConfig, Resources, Scorer
from curation.smoother import SmootherRef

if TYPE_CHECKING:
    from curation.operators.classify_text import ClassifyText
    from curation.operators.score_reward import ScoreReward
    from curation.operators.smooth_disfluency import SmoothDisfluency

Filter = ClassifierRef | SmootherRef

DEFAULT_ORDER = (
    "structure_dialogue",
    "normalize_text",
    "smooth_disfluency",
    "tag_users",
    "match_sensitive_words",
    "redact_personal_data",
    "deduplicate",
    "truncate_history",
)
MAX_OPERATORS = 50
FINAL = "which must be the last: its windows are final"
IMPOSSIBLE = {("redact_personal_data", "tag_users"): "which hides what it reads: put it before"}
"""First and second operator: why the second cannot work after the first."""
SURPRISING = {
    ("match_sensitive_words", "tag_users"): "it cannot read what was masked",
    ("match_sensitive_words", "smooth_disfluency"): "words that a stutter splits are missed",
    ("redact_personal_data", "smooth_disfluency"): "numbers that a filler splits are missed",
    **{
        (first, second): "texts that become alike only now are not counted as such"
        for first in ("deduplicate", "limit_repeats")
        for second in ("normalize_text", "smooth_disfluency", "redact_personal_data")
    },
    ("limit_repeats", "deduplicate"): "the replies of duplicates were counted too",
}
"""First and second operator: what may be otherwise than meant."""


@dataclass(frozen=True)
class Needs:
    """What a step names by id, by content."""

    lexicons: tuple[Lexicon, ...] = ()
    classifier: ClassifierRef | None = None
    scorer: Scorer | None = None
    smoother: SmootherRef | None = None

    @property
    def contents(self) -> list[Any]:
        """What of it decides the outcome: words and digests, no ids and no places."""
        learned = self.classifier or self.scorer or self.smoother
        return [[_content(lexicon) for lexicon in self.lexicons], None if learned is None else learned.digest]


@dataclass(frozen=True)
class Recipe:
    """A recipe that can run."""

    steps: tuple[tuple[Operator, OperatorConfig, Needs], ...]
    warnings: tuple[str, ...] = ()

    @property
    def resolved(self) -> dict[str, Any]:
        """The recipe with every default filled in, as JSON."""
        return {"operators": [{"kind": op.kind, **config.model_dump(mode="json")} for op, config, _ in self.steps]}

    @property
    def fingerprint(self) -> str:
        """Hash of what the recipe does: operators' versions, configs, contents of what they name; ids do not count."""
        named = {"lexicons", "classifier", "reward_model", "smoother"}
        parts = [
            [op.kind, op.version, config.model_dump(mode="json", exclude=named), needs.contents]
            for op, config, needs in self.steps
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

    @property
    def barriers(self) -> tuple[int, ...]:
        """The steps that look at all segments at once."""
        return tuple(index for index, (op, _, _) in enumerate(self.steps) if op.barrier is not None)

    def stage(self, number: int) -> "Recipe":
        """The steps that make what waits at the barrier `number`, counted from 0; all steps where there is none."""
        ends = [index + 1 for index in self.barriers]
        return Recipe(self.steps[: ends[number]] if number < len(ends) else self.steps)

    def bind(self, as_of: date) -> list[Step]:
        """The steps, ready to run on conversations of a version made on `as_of`."""
        return [
            Step(op, config, Resources(as_of, needs.lexicons, needs.classifier, needs.scorer, needs.smoother))
            for op, config, needs in self.steps
        ]


def barriers(body: Mapping[str, Any]) -> list[str]:
    """The kinds of a recipe's steps that look at all segments at once; it was parsed once."""
    return [item["kind"] for item in _operators(body) if REGISTRY[item["kind"]].barrier is not None]


def num_barriers(body: Mapping[str, Any]) -> int:
    """How many steps of a recipe that was parsed once look at all segments at once."""
    return len(barriers(body))


def default_recipe() -> dict[str, Any]:
    """What runs when a version names no recipe."""
    return {"operators": [{"kind": kind} for kind in DEFAULT_ORDER]}


def lexicon_ids(body: Mapping[str, Any] | None) -> set[str]:
    """Ids of the lexicons that a recipe names."""
    lists = [item.get("lexicons") for item in _operators(body)]
    return {name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)}


def filter_ids(body: Mapping[str, Any] | None) -> set[str]:
    """Ids of the classifiers and smoothers that a recipe names; on the command line their folders."""
    fields = {"classify_text": "classifier", "smooth_disfluency": "smoother"}
    named = [item.get(fields[item["kind"]]) for item in _operators(body) if item.get("kind") in fields]
    return {name for name in named if isinstance(name, str)}


def scorer_ids(body: Mapping[str, Any] | None) -> set[str]:
    """Ids of the reward models that a recipe names; on the command line their folders."""
    named = [item.get("reward_model") for item in _operators(body) if item.get("kind") == "score_reward"]
    return {name for name in named if isinstance(name, str)}


def _operators(body: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Those members of `operators` that can be read, of a recipe not checked yet."""
    operators = body.get("operators") if isinstance(body, Mapping) else None
    return [item for item in operators if isinstance(item, Mapping)] if isinstance(operators, list) else []


def parse_recipe(
    body: Mapping[str, Any] | None,
    *,
    lexicons: Mapping[str, Lexicon] | None = None,
    filters: Mapping[str, Filter] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
) -> Recipe:
    """Reads a recipe; None is the default one. `lexicons`, `filters` and `scorers` hold those that it names, by id.

    Raises:
        RecipeError: an unknown operator, field, lexicon or filter, a wrong value, or an order that cannot work.
    """
    body = default_recipe() if body is None else body
    if not isinstance(body, Mapping) or not isinstance(body.get("operators"), list) or set(body) != {"operators"}:
        raise RecipeError("a recipe is an object with the one member `operators`, a list")
    if len(body["operators"]) > MAX_OPERATORS:
        raise RecipeError(f"a recipe has at most {MAX_OPERATORS} operators")
    steps = tuple(
        _parse_step(item, index, lexicons or {}, filters or {}, scorers or {})
        for index, item in enumerate(body["operators"])
    )
    recipe = Recipe(steps)
    return replace(recipe, warnings=tuple(_check_order([op.kind for op, _, _ in steps])))


def _parse_step(
    item: object,
    index: int,
    lexicons: Mapping[str, Lexicon],
    filters: Mapping[str, Filter],
    scorers: Mapping[str, Scorer],
) -> tuple[Operator, OperatorConfig, Needs]:
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
    if op.kind == "classify_text":
        return op, *_with_classifier(cast("ClassifyText", config), index, filters)
    if op.kind == "smooth_disfluency" and (named := cast("SmoothDisfluency", config).smoother) is not None:
        if not isinstance(smoother := filters.get(named), SmootherRef):
            message = f"smooth_disfluency: there is no trained smoother {named}"
            raise RecipeError(message, index=index, operator=op.kind, field="smoother")
        return op, config, Needs(smoother=smoother)
    if op.kind == "score_reward":
        name = cast("ScoreReward", config).reward_model
        if name not in scorers:
            message = f"score_reward: there is no trained reward model {name}"
            raise RecipeError(message, index=index, operator=op.kind, field="reward_model")
        return op, config, Needs(scorer=scorers[name])
    return op, config, Needs(lexicons=_lexicons_of(op, config, index, lexicons))


def _lexicons_of(op: Operator, config: OperatorConfig, index: int, known: Mapping[str, Lexicon]) -> tuple[Lexicon, ...]:
    if op.kind != "match_sensitive_words":
        return ()
    names: tuple[str, ...] = getattr(config, "lexicons", ())
    for name in names:
        if name not in known:
            message = f"{op.kind}: there is no lexicon {name}"
            raise RecipeError(message, index=index, operator=op.kind, field="lexicons")
    if not names and not getattr(config, "words", ()) and not getattr(config, "detect", ()):
        from curation.operators.match_sensitive_words import builtin_lexicon

        return (builtin_lexicon(),)
    return tuple(known[name] for name in names)


def _with_classifier(config: "ClassifyText", index: int, known: Mapping[str, Filter]) -> "tuple[ClassifyText, Needs]":
    """The config with its labels filled in, and the classifier that it names."""

    def wrong(field: str, message: str) -> RecipeError:
        return RecipeError(f"classify_text: {message}", index=index, operator="classify_text", field=field)

    ref = known.get(config.classifier)
    if not isinstance(ref, ClassifierRef):
        raise wrong("classifier", f"there is no trained classifier {config.classifier}")
    has = ", ".join(ref.labels[:20])
    if unknown := [label for label in config.labels if label not in ref.labels]:
        raise wrong("labels", f"the classifier has no label {unknown[0]}: it has {has}")
    labels = config.labels or ref.unsuitable()
    if not labels:
        raise wrong("labels", f"say which of the classifier's labels to act on: it has {has}")
    if config.scope == "conversation" and config.action == "drop_turn":
        raise wrong("action", "drop_turn needs the scope turn; a conversation is dropped by drop_conversation")
    return config.model_copy(update={"labels": labels}), Needs(classifier=ref)


def _check_order(kinds: list[str]) -> list[str]:
    """Warnings about an order; raises where it cannot work."""
    warnings = []
    for index, kind in enumerate(kinds):
        before = dict.fromkeys(kinds[:index])
        for first in before:
            reason = FINAL if first == "truncate_history" else IMPOSSIBLE.get((first, kind))
            if reason is not None:
                message = f"{kind} comes after {first}, {reason}"
                raise RecipeError(message, index=index, operator=kind, field="kind")
        if kind == "structure_dialogue" and before:
            warnings.append(
                f"structure_dialogue comes after {kinds[index - 1]}: put it first, others rely on its turns"
            )
        warnings += [
            f"{kind} comes after {first}: {SURPRISING[first, kind]}" for first in before if (first, kind) in SURPRISING
        ]
        if kind in before and kind != "classify_text":
            warnings.append(f"{kind} runs more than once")
    if "structure_dialogue" not in kinds:
        warnings.append("without structure_dialogue, conversations without a reply are kept")
    return warnings


def _content(lexicon: Lexicon) -> list[Any]:
    return [sorted(lexicon.words), sorted(lexicon.allow), lexicon.category]
