"""What `/openapi.json` says holds on the live server: cases of every route, right and wrong, give documented answers.

A few cases of each route in every run; with HYPOTHESIS_PROFILE=long many more (`make test-long`).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from running_stack import RunningStack
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
CASES_OF_A_ROUTE = 15 if LONG else 2
"""Of each kind, right and wrong."""
MIN_CASES = 2_000 if LONG else 150
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = ("/v1/fine_tuning/jobs/{job_id}/stream",)


@pytest.fixture(scope="module")
def known(stack: RunningStack, examples: Path) -> dict[str, str]:
    """Ids of things that exist, by the parameter that names them, so that cases get beyond 404."""
    file = stack.upload("talks.jsonl", (examples / "dialogues.jsonl").read_bytes())
    version = stack.version(file["id"])
    lexicon = stack.http.post("/lexicons", json={"name": "a", "words": ["b"]}).json()
    upload = stack.http.post("/uploads", json={"filename": "a", "purpose": "conversations", "bytes": 3}).json()
    key = stack.http.post("/keys", json={"name": "guest", "scopes": ["read"]}).json()
    talk = stack.get(f"/versions/{version['id']}/conversations", limit=1)["data"][0]
    return {
        "file_id": file["id"], "dataset_id": version["dataset_id"], "version_id": version["id"],
        "lexicon_id": lexicon["id"], "upload_id": upload["id"], "key_id": key["id"], "conversation_id": talk["id"],
        "name": "scratch:tiny",
    }  # fmt: skip


def operations(stack: RunningStack) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{stack.state['url']}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in ENDLESS:
            yield operation


@pytest.mark.parametrize("stack", ["embedded"], indirect=True)
def test_every_route_answers_as_it_is_described(
    stack: RunningStack, known: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    """The cases that are answered 401 are one a route: wrong is also to show no key."""
    statuses: Counter[int] = Counter()
    for operation in operations(stack):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=CASES_OF_A_ROUTE, derandomize=True, database=None, deadline=None,
                suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
            )  # fmt: skip
            @given(case=strategy, real=st.booleans())
            def check(case: Any, real: bool) -> None:
                if real:
                    given_ids = {name: known.get(name, value) for name, value in (case.path_parameters or {}).items()}
                    case.path_parameters = given_ids or None
                answer = case.call_and_validate(headers=stack.authorization, checks=CHECKS, timeout=60)
                statuses[answer.status_code] += 1

            with suppress(Unsatisfiable):  # where nothing is asked, nothing can be asked wrongly
                check()
    record_property("cases by status", dict(sorted(statuses.items())))
    assert sum(statuses.values()) >= MIN_CASES, statuses
    assert {200, 404, 422} <= set(statuses), statuses
    assert stack.http.get("/files").status_code == 200
