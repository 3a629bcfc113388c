"""Deduplication: planted copies with edits are found, and nothing else in real dialogues that all differ."""

import random
from collections.abc import Iterator
from datetime import date

import orjson

from benchmarks.quality.figures import CLEAN, Figure, records
from curation.preview import preview
from curation.recipe import parse_recipe

RATES = (0.0, 0.02, 0.05, 0.1, 0.3)
"""Shares of characters that are edited: one in three replaced, one doubled with another, one left out."""
FOUND_UP_TO = 0.05
RECIPE = parse_recipe({"operators": [{"kind": "deduplicate"}]})
SEED = 20_261_125


def figures() -> Iterator[Figure]:
    for name in CLEAN:
        originals = [{"id": f"o{n}", "messages": record["messages"]} for n, record in enumerate(records(name))]
        false = len(_kept_for(originals))
        yield Figure(f"{name}: of {len(originals)} conversations, taken for others", false, 0, at_most=True)
        for rate in RATES:
            kept = _kept_for([*originals, *_edited(originals, rate)])
            right = sum(kept.get(f"c{n}") == f"o{n}" for n in range(len(originals)))
            bar = 0.95 if rate <= FOUND_UP_TO else None
            yield Figure(f"{name}: copies with {rate:.0%} edited, found", right / len(originals), bar)


def _kept_for(conversations: list[dict[str, object]]) -> dict[str, str]:
    """Of each conversation that is dropped, the one that is kept."""
    made = preview(conversations, RECIPE, as_of=date(2026, 11, 25))
    drops = [row for one in made for row in one["trace"] if row["action"] == "drop_conversation"]
    return {row["conversation_id"]: row["after"] for row in drops}


def _edited(originals: list[dict[str, object]], rate: float) -> Iterator[dict[str, object]]:
    chance = random.Random(SEED)
    letters = [letter for one in originals[:50] for turn in one["messages"] for letter in turn["content"]]  # type: ignore[attr-defined]

    def edit(letter: str) -> str:
        if chance.random() >= rate:
            return letter
        return chance.choice([chance.choice(letters), letter + chance.choice(letters), ""])

    for number, one in enumerate(originals):
        copy = orjson.loads(orjson.dumps(one["messages"]))
        for turn in copy:
            turn["content"] = "".join(map(edit, turn["content"]))
        yield {"id": f"c{number}", "messages": [turn for turn in copy if turn["content"]]}
