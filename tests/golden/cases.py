"""Golden cases: what each operator makes of given conversations, word for word.

A case is `<kind>/<name>.json`: `about` (a line), `config` of the operator, `conversations` as the preview takes them,
beside where needed `lexicons` by name, `labels` (texts with a label each, from which the classifier `trained` is made),
`points` (words with what each counts in a reply, in place of a trained reward model), `again: false` where it would go on
when it is run on what it made,
and `example: true` on the one that the docs show. `recorded` is written by `make golden` only: the operator's version and
what came out, without nulls, originals and the operator's own name; several `windows` stand in place of `curated`.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from curation.classifier import ClassifierRef
from curation.classifier_training import train_classifier
from curation.operator import REGISTRY, Lexicon, Operator
from curation.preview import preview
from curation.recipe import Recipe, parse_recipe

FOLDER = Path(__file__).parent
AS_OF = date(2026, 11, 1)
TRAINED = "trained"
"""What a config calls the classifier made of the case's labels."""
WIDTH = 118


@dataclass(frozen=True)
class Points:
    """A reward model that counts words in the lowest reply."""

    words: tuple[tuple[str, float], ...]

    @property
    def digest(self) -> str:
        """Of the words."""
        return repr(self.words)

    def scores(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float | None]:
        """As a trained one's."""
        replies = [[turn["content"] for turn in one if turn["role"] == "assistant"] for one in conversations]
        return [min(map(self._points, one)) if one else None for one in replies]

    def _points(self, reply: str) -> float:
        return sum(reply.count(word) * points for word, points in self.words)


@dataclass(frozen=True)
class Case:
    """One file."""

    path: Path

    @property
    def kind(self) -> str:
        """The operator."""
        return self.path.parent.name

    @property
    def name(self) -> str:
        """Operator and case."""
        return f"{self.kind}/{self.path.stem}"

    @property
    def operator(self) -> Operator:
        """The operator as it is now."""
        return REGISTRY[self.kind]

    @cached_property
    def content(self) -> dict[str, Any]:
        """The file."""
        read: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
        return read

    @property
    def step(self) -> dict[str, Any]:
        """The operator with its settings, as a recipe names it."""
        return {"kind": self.kind, **self.content["config"]}

    @property
    def lexicons(self) -> dict[str, Lexicon]:
        """The lexicons that the settings name."""
        return {
            name: Lexicon(tuple(one["words"]), tuple(one.get("allow", ())), one.get("category"))
            for name, one in self.content.get("lexicons", {}).items()
        }

    @property
    def filters(self) -> dict[str, ClassifierRef]:
        """The classifier that the settings name."""
        labels = tuple((text, label) for text, label in self.content.get("labels", ()))
        return {TRAINED: _trained(labels)} if labels else {}

    @property
    def scorers(self) -> dict[str, Points]:
        """The reward model that the settings name."""
        points = self.content.get("points")
        return {TRAINED: Points(tuple(points.items()))} if points else {}

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of this one operator."""
        return joined([self])

    @property
    def texts(self) -> list[str]:
        """What is said in the conversations."""
        return [turn["content"] for turn in self.turns]

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The messages of the conversations."""
        return [message for one in self.content["conversations"] for message in one["messages"]]

    def run(self) -> list[dict[str, Any]]:
        """What the operator makes of each conversation now."""
        made = preview(self.content["conversations"], self.recipe, as_of=AS_OF)
        return [_shown(one, digits=1 if "labels" in self.content else 4) for one in made]

    def fault(self) -> str | None:
        """What is wrong with the record and the way out; None where it is right."""
        recorded, version = self.content.get("recorded"), self.operator.version
        if recorded is None:
            return f"{self.name} is not recorded: run `make golden`, and read what it wrote"
        if recorded["version"] != version:
            return (
                f"{self.name} is of version {recorded['version']}, the operator of version {version}: "
                "run `make golden`, and read its diff"
            )
        return None if recorded["conversations"] == self.run() else self.refusal

    @property
    def refusal(self) -> str:
        """What to do about an outcome that changed under the same version."""
        return (
            f"{self.name}: the outcome changed, the version did not. If you meant it, raise `version` in "
            f"curation/operators/{self.kind}.py and run `make golden`; after a change of the case itself, delete its "
            "`recorded` first"
        )

    def record(self) -> bool:
        """Writes what comes out now; whether the file changed.

        Raises:
            ValueError: the outcome changed but not the version, or the version fell.
        """
        recorded, version, made = self.content.get("recorded"), self.operator.version, self.run()
        if recorded is not None and recorded["version"] >= version and recorded["conversations"] != made:
            raise ValueError(self.refusal)
        new = written({**self.content, "recorded": {"version": version, "conversations": made}})
        changed = self.path.read_text("utf-8") != new
        self.path.write_text(new, "utf-8")
        return changed


def all_cases() -> list[Case]:
    """Every case, by operator and name."""
    return [Case(path) for path in sorted(FOLDER.glob("*/*.json"))]


def example_of(kind: str) -> Case:
    """The case that the docs show of an operator."""
    return next(case for case in all_cases() if case.kind == kind and case.content.get("example"))


def joined(cases: Sequence[Case]) -> Recipe:
    """The recipe that runs the operators of several cases one after another."""
    lexicons = {name: one for case in cases for name, one in case.lexicons.items()}
    filters = {name: one for case in cases for name, one in case.filters.items()}
    scorers = {name: one for case in cases for name, one in case.scorers.items()}
    steps = {"operators": [case.step for case in cases]}
    return parse_recipe(steps, lexicons=lexicons, filters=filters, scorers=scorers)


def written(value: object, indent: int = 0) -> str:
    """JSON for readers: what fits on a line stands on one, and what cannot be seen is escaped."""
    flat = _escaped(json.dumps(value, ensure_ascii=False))
    if (len(flat) + indent <= WIDTH and indent) or not isinstance(value, dict | list) or not value:
        return flat
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [f"{pad}{json.dumps(name)}: {written(one, indent + 1)}" for name, one in value.items()]
    else:
        parts = [pad + written(one, indent + 1) for one in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    text = f"{opening}\n" + ",\n".join(parts) + f"\n{' ' * indent}{closing}"
    return text if indent else text + "\n"


def _escaped(text: str) -> str:
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _shown(made: dict[str, Any], digits: int) -> dict[str, Any]:
    """Scores of a learned filter follow from its training, so they are kept to one digit."""
    trace = [
        {
            name: round(value, digits) if name == "score" else value
            for name, value in row.items()
            if value is not None and name not in ("conversation_id", "operator")
        }
        for row in made["trace"]
    ]
    dropped = made["dropped"] and made["dropped"]["code"]
    rows = {"windows": made["windows"]} if made["windows"] else {"curated": made["curated"]}
    return {name: value for name, value in {**rows, "trace": trace, "dropped": dropped}.items() if value is not None}


@lru_cache(maxsize=4)
def _trained(labels: tuple[tuple[str, str], ...]) -> ClassifierRef:
    folder = Path(tempfile.mkdtemp(prefix="golden-")) / TRAINED
    train_classifier(labels, folder, hyperparameters={"bucket": 1_000})
    return ClassifierRef.at(folder)
