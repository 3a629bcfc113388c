"""The page of the operators, from the registry; each shows its golden example, run anew."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from golden.cases import Case, example_of

from curation.operator import MENDED, REGISTRY, Operator
from curation.recipe import DEFAULT_ORDER, FINAL, IMPOSSIBLE, SURPRISING
from docs.generator.markdown import code, default_of, table, type_of

INTRODUCTION = """# Operators

An operator proposes, the engine applies and writes a trace row for every change: the operator's kind, a code, what
stood there (`before`, at `start` to `end` of the text that the operator received) and what stands there now (`after`).
A recipe is a list of operators with their settings. An operator's version is part of a recipe's fingerprint and is
raised with every change of what it does. `GET /v1/operators` says the same as JSON, without the examples;
[adding-an-operator.md](adding-an-operator.md) tells how to write one.

Scope: a `turn` operator sees single turns, a `conversation` operator whole ones, a `dataset` operator all of them.
"""
MENDING = """
After an operator dropped turns, the engine mends the conversation, and traces that under the operator with these codes:

"""


ORDERS = f"""
## Orders

A recipe's order is yours. Nothing may come after `truncate_history`, {FINAL}.
What is refused is answered with 422; the rest of this table carries a warning, and so does a `structure_dialogue` that
is not the first, or a kind that comes twice, but for `classify_text`.

"""


def page() -> str:
    """All operators: those of the default recipe in its order, then the others."""
    order = [*DEFAULT_ORDER, *sorted(set(REGISTRY) - set(DEFAULT_ORDER))]
    overview = [
        (f"[`{kind}`](#{kind})", REGISTRY[kind].scope, str(REGISTRY[kind].version), _line(REGISTRY[kind].description))
        for kind in order
    ]
    parts = [
        INTRODUCTION,
        "\n" + table(("kind", "scope", "version", "does"), overview),
        MENDING + table(("code", "meaning"), ((code(name), meaning) for name, meaning in MENDED.items())),
        *(_section(REGISTRY[kind]) for kind in order),
        ORDERS
        + table(("first", "then", "", "why"), [*_orders(IMPOSSIBLE, "refused"), *_orders(SURPRISING, "warning")]),
    ]
    return "".join(parts)


def _orders(pairs: Mapping[tuple[str, str], str], what: str) -> list[tuple[str, ...]]:
    return [(code(first), code(second), what, why) for (first, second), why in pairs.items()]


def _section(operator: Operator) -> str:
    schema = operator.config.model_json_schema()
    required, definitions = schema.get("required", ()), schema.get("$defs", {})
    fields = [
        (code(name), type_of(one, definitions), default_of(name, one, required), _line(one.get("description", "")))
        for name, one in schema.get("properties", {}).items()
    ]
    usual = "in the default recipe" if operator.kind in DEFAULT_ORDER else "not in the default recipe"
    parts = [
        f"\n## {operator.kind}\n\n{operator.description}\n\n",
        f"Scope {operator.scope}, version {operator.version}, {usual}.\n\n",
        table(("setting", "type", "default", "meaning"), fields) + "\n" if fields else "",
        table(("code", "meaning"), ((code(name), meaning) for name, meaning in operator.codes.items())),
        _example(example_of(operator.kind)),
    ]
    return "".join(parts)


def _example(case: Case) -> str:
    """Before and after of each conversation of a case, and the trace between them."""
    parts = [f"\nExample: {case.content['about']}\n\n    {json.dumps(case.step, ensure_ascii=False)}\n\n"]
    for given, made in zip(case.content["conversations"], case.run(), strict=True):
        if user := given.get("user"):
            parts.append(f"The user's metadata: {code(json.dumps(user, ensure_ascii=False))}\n\n")
        after = made.get("windows") or [made["curated"]] if made.get("curated") or made.get("windows") else []
        parts.append(_conversation("before", given["messages"]))
        parts += [_conversation(f"after: {one['id']}" if len(after) > 1 else "after", one["messages"]) for one in after]
        if "dropped" in made:
            parts.append(f"Dropped: {code(made['dropped'])}\n\n")
        if after and (tags := after[0]["user"]):
            parts.append(f"The user's tags: {code(json.dumps(tags, ensure_ascii=False))}\n\n")
        parts.append(_trace(made["trace"]))
    return "".join(parts)


def _conversation(title: str, messages: Sequence[Mapping[str, Any]]) -> str:
    def role(message: Mapping[str, Any]) -> str:
        return message["role"] + (" (not learned)" if message.get("weight") == 0 else "")

    return table((title, ""), [(role(one), code(one["content"])) for one in messages]) + "\n"


def _trace(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of a trace; places, turns and scores only where there are some."""
    columns: dict[str, list[str]] = {
        "turn": [str(row.get("turn", "")) for row in rows],
        "code": [code(row["code"]) for row in rows],
        "action": [row["action"] for row in rows],
        "place": [f"{row['start']}–{row['end']}" if "start" in row else "" for row in rows],
        "before": [code(row.get("before", "")) for row in rows],
        "after": [code(row.get("after", "")) for row in rows],
        "score": [str(row.get("score", "")) for row in rows],
    }
    told = {name: cells for name, cells in columns.items() if any(cells) or name in ("before", "after")}
    return table(tuple(told), zip(*told.values(), strict=True))


def _line(text: str) -> str:
    return " ".join(text.split())
