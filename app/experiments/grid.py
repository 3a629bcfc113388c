"""Grids: values by field become one setting of the job after the other.

A key is a path into the job (`trainer.data.max_source_length`, `model`, `seed`, `training_file`), or into the recipe of
what is learned: `recipe` for whole ones, `recipe.operators.<kind>` for an operator on, off or with settings,
`recipe.operators.<kind>.<field>` for one of its fields.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

from app.errors import Unprocessable

SOURCE, TARGET = "trainer.data.max_source_length", "trainer.data.max_target_length"
SEEDS = ("seed", "trainer.run.seed")
LENGTHS: dict[str, list[Any]] = {SOURCE: [512, 1024], TARGET: [256, 512]}
"""The built-in grid: each length alone and both together."""
MAX_RUNS = 64
JOB_FIELDS = ("model", "training_file", "seed", "hyperparameters", "trainer")
OPERATORS = "recipe.operators."
NOT_FOR_GRIDS = {
    "validation_file": "what runs are compared on is one for all: say evaluation.file",
    "suffix": "names of models follow from the runs",
    "trainer.data.validation_share": "what runs are compared on is one for all: say evaluation.holdout",
}


@dataclass(frozen=True)
class Point:
    """A combination of the grid's values, by field."""

    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The settings in a line; fields by the last part of their path, as far as that says which."""
        if not self.settings:
            return "as the job says"
        return ", ".join(f"{_short(key, self.settings)} {_said(value)}" for key, value in self.settings.items())

    @property
    def of_recipe(self) -> dict[str, Any]:
        """Those settings that make another version of what is learned."""
        return {key: value for key, value in self.settings.items() if key.partition(".")[0] == "recipe"}

    @property
    def without_seed(self) -> dict[str, Any]:
        """The settings that runs of several seeds have in common."""
        return {key: value for key, value in self.settings.items() if key not in SEEDS}

    def of_job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The job with the point's settings in place.

        Raises:
            Unprocessable: a path leads through something that is no object; `param` names the grid's key.
        """
        made = deepcopy(dict(job))
        for key, value in self.settings.items():
            if key not in self.of_recipe:
                put(made, key, value)
        return made


def name_in(grid: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The settings in a line, but for those that the grid does not vary."""
    return Point({key: value for key, value in settings.items() if len(grid[key]) > 1}).name


def points(grid: Mapping[str, Any]) -> list[Point]:
    """All combinations; the last field changes fastest.

    Raises:
        Unprocessable: a field that no grid can vary, values that are none, or too many combinations; `param` names it.
    """
    if not grid:
        raise Unprocessable("grid: name at least one field and its values", param="grid")
    for key, values in grid.items():
        _check(key, values)
    num_runs = 1
    for values in grid.values():
        num_runs *= len(values)
    if num_runs > MAX_RUNS:
        raise Unprocessable(f"grid: {num_runs} combinations, at most {MAX_RUNS} are run", param="grid")
    return [Point(dict(zip(grid, values, strict=True))) for values in product(*grid.values())]


def _check(key: str, values: object) -> None:
    param = f"grid.{key}"
    if key in NOT_FOR_GRIDS:
        raise Unprocessable(f"{param}: {NOT_FOR_GRIDS[key]}", param=param)
    root, _, rest = key.partition(".")
    if key != "recipe" and not (key.startswith(OPERATORS) and len(key) > len(OPERATORS)):
        if root not in JOB_FIELDS:
            known = f"{', '.join(JOB_FIELDS)}, recipe, {OPERATORS}<kind>"
            raise Unprocessable(f"{param}: no field of a job that a grid can vary: those are {known}", param=param)
        if (root in ("trainer", "hyperparameters")) != bool(rest):
            raise Unprocessable(f"{param}: name one field, as in {SOURCE}", param=param)
    if not isinstance(values, list) or not values:
        raise Unprocessable(f"{param}: must be a list of at least one value", param=param)
    told = [json.dumps(value, sort_keys=True) for value in values]
    if len(set(told)) < len(told):
        raise Unprocessable(f"{param}: each value once", param=param)


def put(target: dict[str, Any], key: str, value: Any) -> None:
    """Sets what a dotted path leads to.

    Raises:
        Unprocessable: something on the way is no object.
    """
    *path, last = key.split(".")
    for part in path:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise Unprocessable(f"grid.{key}: job.{part} is no object", param=f"grid.{key}")
        target = inner
    target[last] = value


def with_operators(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with the operators that the settings name on, off, or otherwise set.

    Raises:
        Unprocessable: an operator that has no place in the recipe, or a value that is none; `param` names the key.
    """
    operators: list[dict[str, Any]] = [dict(op) for op in settings.get("recipe", recipe).get("operators", [])]
    for key, value in settings.items():
        if key == "recipe":
            continue
        kind, _, field = key.removeprefix(OPERATORS).partition(".")
        present = [op for op in operators if op.get("kind") == kind]
        if field:
            if not present:
                raise Unprocessable(f"grid.{key}: the recipe has no operator {kind}", param=f"grid.{key}")
            for op in present:
                op[field] = value
        elif value is False:
            operators = [op for op in operators if op.get("kind") != kind]
        elif value is True and present:
            continue
        elif value is True or isinstance(value, dict):
            config = {"kind": kind, **(value if isinstance(value, dict) else {})}
            operators = _placed(operators, config, key)
        else:
            detail = f"grid.{key}: true, false, or the operator's settings as an object"
            raise Unprocessable(detail, param=f"grid.{key}")
    return {"operators": operators}


def _placed(operators: list[dict[str, Any]], config: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The recipe with the operator in its own place, or in the one that the default recipe gives it."""
    from curation.recipe import DEFAULT_ORDER

    kind = config["kind"]
    if any(op.get("kind") == kind for op in operators):
        return [config if op.get("kind") == kind else op for op in operators]
    if kind not in DEFAULT_ORDER:
        detail = (
            f"grid.{key}: neither the recipe nor the default one has {kind}, so it has no place: give whole recipes"
        )
        raise Unprocessable(detail, param=f"grid.{key}")
    before = DEFAULT_ORDER[: DEFAULT_ORDER.index(kind)]
    at = max((place + 1 for place, op in enumerate(operators) if op.get("kind") in before), default=0)
    return [*operators[:at], config, *operators[at:]]


def _short(key: str, among: Mapping[str, Any]) -> str:
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in among) == 1 else key


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict) and "operators" in value:
        return "+".join(str(op.get("kind")) for op in value["operators"]) or "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
