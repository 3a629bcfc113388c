"""Markdown from values: tables, code, the types of a JSON Schema in words."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold bars and line breaks."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def code(text: str) -> str:
    """Text as code inside a line, what cannot be seen escaped; nothing where there is none."""
    shown = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    fence = "``" if "`" in shown else "`"
    return f"{fence}{shown}{fence}" if shown else ""


def type_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON Schema's type in words: `integer ≥ 1`, `list of string`, `"a"` or `"b"`."""
    match schema:
        case {"$ref": str(reference)}:
            text = type_of(definitions[reference.rpartition("/")[2]], definitions)
        case {"anyOf": choices}:
            text = " or ".join(type_of(one, definitions) for one in choices)
        case {"enum": values}:
            text = " or ".join(code(json.dumps(one, ensure_ascii=False)) for one in values)
        case {"const": value}:
            text = code(json.dumps(value, ensure_ascii=False))
        case {"type": "array", "items": items} | {"type": "array", "prefixItems": [items, *_]}:
            text = f"list of {type_of(items, definitions)}"
        case {"type": "object", "properties": fields}:
            text = "object of " + ", ".join(f"`{name}`: {type_of(one, definitions)}" for name, one in fields.items())
        case {"type": "object", "additionalProperties": dict(values)}:
            text = f"map to {type_of(values, definitions)}"
        case _:
            limits = [f"{sign} {_number(schema[name])}" for name, sign in BOUNDS.items() if name in schema]
            text = " ".join([schema.get("format") or schema.get("type", "any"), *limits])
    return text


def default_of(name: str, schema: Mapping[str, Any], required: Sequence[str]) -> str:
    """A field's default as JSON; fields without one are required."""
    return "required" if name in required else code(json.dumps(schema.get("default"), ensure_ascii=False))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split("\n"))
