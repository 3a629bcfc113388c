"""The versions of an experiment: what its runs learn, and the sets of conversations that all of them are scored on.

Each is made once, whatever number of runs needs it. Where recipes are compared, runs are scored on the conversations as
they came in, and on those that each recipe makes of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.repository import file_ids_of
from app.datasets.schemas import NewVersion
from app.datasets.service import create_version
from app.errors import NotFound, Unprocessable
from app.experiments.grid import Point, with_operators
from app.experiments.schemas import NewExperiment
from app.models import Version
from app.recipes.service import read_recipe
from app.training.service import learnable_version

HELD_OUT = "held out"
RAW = "raw"
"""The set of conversations as they came in, but for their structure."""
RAW_RECIPE: dict[str, Any] = {"operators": [{"kind": "structure_dialogue"}]}
MAX_SETS = 8


@dataclass
class ExperimentVersions:
    """The versions of one experiment."""

    session: Session
    body: NewExperiment
    validation: Version | None = None
    """What jobs validate on and do not learn, where the evaluation names a file."""
    warnings: dict[str, None] = field(default_factory=dict)
    """Of the experiment, each once."""
    _named: dict[str, Version] = field(default_factory=dict)
    _made: dict[tuple[str, str], Version] = field(default_factory=dict)
    _sets: dict[str, Version] = field(default_factory=dict)
    """What runs are scored on, by name."""

    def __post_init__(self) -> None:
        if self.body.evaluation.file is not None:
            self.validation = self._version(self.body.evaluation.file, "evaluation.file")

    def learned(self, training_file: str, point: Point) -> Version:
        """What a point's run learns.

        Raises:
            NotFound: there is no such version or file.
            Unprocessable: it cannot be learned, or the point's recipe cannot work; `param` names where.
        """
        base = self._version(training_file, "training_file")
        if base is self.validation:
            detail = "evaluation.file: what is compared on is not learned, so nothing would be left of training_file"
            raise Unprocessable(detail, param="evaluation.file")
        if not point.of_recipe:
            self._add_set(self._name_of(point), self.validation or base)
            return base
        held_out = self.validation or base
        made = self._with_recipe(base, self._recipe(base, training_file, point))
        self._add_set(RAW, self._with_recipe(held_out, RAW_RECIPE))
        self._add_set(
            Point(point.of_recipe).name, made if held_out is base else self._with_recipe(held_out, made.recipe)
        )
        return made

    def sets(self) -> list[dict[str, Any]]:
        """The sets of conversations that runs are scored on."""
        return [{"name": name, "version": version.id} for name, version in self._sets.items()]

    def _name_of(self, point: Point) -> str:
        named = {key: value for key, value in point.settings.items() if key == "training_file"}
        return Point(named).name if named and self.validation is None else HELD_OUT

    def _add_set(self, name: str, version: Version) -> None:
        self._sets.setdefault(name, version)
        if len(self._sets) > MAX_SETS:
            detail = f"grid: every run is scored on what each recipe or file gives, of which there may be {MAX_SETS}"
            raise Unprocessable(detail, param="grid")

    def _version(self, name: str, param: str) -> Version:
        if name not in self._named:
            try:
                self._named[name] = learnable_version(self.session, name, param)
            except NotFound as error:
                raise NotFound(error.detail, param=param if "." in param else f"job.{param}") from None
        return self._named[name]

    def _recipe(self, base: Version, training_file: str, point: Point) -> dict[str, Any]:
        """The point's recipe, made of the version's own, or of the default one where the job names a file."""
        from curation.recipe import default_recipe

        begin = default_recipe() if training_file.startswith("file-") else base.recipe
        return with_operators(begin, point.of_recipe)

    def _with_recipe(self, of: Version, recipe: Mapping[str, Any]) -> Version:
        """A version of the same files by another recipe; the version itself where the recipe is its own."""
        fingerprint = read_recipe(self.session, dict(recipe)).fingerprint
        if fingerprint == of.recipe_fingerprint:
            return of
        if (of.id, fingerprint) not in self._made:
            files = file_ids_of(self.session, [of.id])[of.id]
            new = NewVersion(files=files, recipe=dict(recipe), note="Made for an experiment.")
            self._made[of.id, fingerprint] = create_version(self.session, of.dataset_id, new)
        return self._made[of.id, fingerprint]
