"""The page of the routes, from the API's own description, and what each scope of a key allows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from app.auth import SCOPES
from app.main import create_app
from docs.generator.markdown import code, table

INTRODUCTION = """# Routes

All of `/v1` needs `Authorization: Bearer tm_…` with a key of the scope named; what a route takes, answers and refuses
is at `/docs` and `/openapi.json` of the running service. Scopes do not imply each other.
"""
METHODS = ("get", "post", "put", "patch", "delete")


class Route(NamedTuple):
    """A route as the page tells it."""

    tag: str
    name: str
    scope: str
    does: str
    parameters: str


def page() -> str:
    """The routes by subject, then by scope."""
    routes = list(_routes(create_app().openapi()))
    parts = [INTRODUCTION]
    for tag in dict.fromkeys(route.tag for route in routes):
        rows = [(code(one.name), one.scope, one.does, one.parameters) for one in routes if one.tag == tag]
        parts.append(f"\n## {tag}\n\n" + table(("route", "scope", "does", "query"), rows))
    parts.append("\n## What each scope allows\n\n")
    rows = [
        (code(scope), ", ".join(code(one.name) for one in routes if one.scope == scope)) for scope in sorted(SCOPES)
    ]
    return "".join([*parts, table(("scope", "routes"), rows)])


def _routes(described: dict[str, Any]) -> Iterator[Route]:
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            scopes = [scope for scheme in one.get("security", ()) for needed in scheme.values() for scope in needed]
            query = [given["name"] for given in one.get("parameters", ()) if given["in"] == "query"]
            yield Route(
                one["tags"][0],
                f"{method.upper()} {path}",
                ", ".join(scopes) or "no key",
                one["description"],
                ", ".join(map(code, query)),
            )
