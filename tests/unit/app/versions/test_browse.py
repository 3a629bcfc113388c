"""What a finished version can be asked: conversations, trace, differences, progress."""

import json
from pathlib import Path
from typing import Any

import pytest
from versions_in_process import WINDOWS, Service

from app.datasets.repository import Progress, progress_of
from app.db import writing
from app.models import Work


def test_filters_of_conversations_combine(service: Service, version: dict[str, Any]) -> None:
    path = f"/v1/versions/{version['id']}/conversations"
    everyone = service.get(path, limit=1000)["data"]
    cities = [row["user"]["city"] for row in everyone if "city" in row["user"]]
    city = max(cities, key=cities.count)
    found = service.get(path, limit=1000, city=city, gender="female")["data"]
    assert found == [
        row for row in everyone if row["user"].get("city") == city and row["user"].get("gender") == "female"
    ]
    assert 0 < len(found) < len(cities)
    said = service.get(path, limit=1000, q="运费", operator="smooth_disfluency", code="filler")["data"]
    assert said
    assert all("运费" in json.dumps(row, ensure_ascii=False) for row in said)


def test_dropped_conversations_are_found_by_what_they_said(service: Service, version: dict[str, Any]) -> None:
    path = f"/v1/versions/{version['id']}/conversations"
    dropped = service.get(path, dropped=True, limit=1000)["data"]
    assert len(dropped) == version["counts"]["conversations_dropped"] > 0
    original = service.get(f"{path}/{dropped[-1]['id']}")["original"]
    text = next(message["content"] for message in original["messages"] if message["content"].strip())
    found = service.get(path, dropped=True, q=text, operator="structure_dialogue", limit=1000)["data"]
    assert dropped[-1] in found
    assert service.get(path, dropped=True, q="no one says this")["data"] == []


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("conversations", {"operator": "redact_everything"}, "operator"),
        ("conversations", {"age_band": "20-30"}, "age_band"),
        ("conversations", {"gender": "f"}, "gender"),
        ("conversations", {"after": "nobody"}, "after"),
        ("conversations", {"dropped": True, "province": "四川省"}, "province"),
        ("trace", {"action": "explode"}, "action"),
        ("trace", {"operator": "truncate"}, "operator"),
        ("diff", {}, "against"),
        ("diff", {"against": "SELF", "change": "moved"}, "change"),
        ("diff", {"against": "SELF", "after": "nobody"}, "after"),
        ("tags/statistics", {"by": "shoe_size"}, "by"),
        ("tags/statistics", {"by": "gender", "metric": "words"}, "metric"),
        ("tags/statistics", {"by": "gender", "where": "shoe_size:44"}, "where"),
    ],
)
def test_a_wrong_filter_is_named(
    service: Service, version: dict[str, Any], path: str, params: dict[str, Any], field: str
) -> None:
    given = {name: version["id"] if value == "SELF" else value for name, value in params.items()}
    answer = service.client.get(f"/v1/versions/{version['id']}/{path}", params=given)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == field


def test_the_trace_is_filtered_and_paged(service: Service, version: dict[str, Any]) -> None:
    path = f"/v1/versions/{version['id']}/trace"
    rows: list[dict[str, Any]] = []
    while True:
        page = service.get(
            path, action="edit", operator="smooth_disfluency", after=rows[-1]["row"] if rows else -1, limit=97
        )
        rows += page["data"]
        if not page["has_more"]:
            break
    assert len(rows) == sum(version["counts"]["by_operator"]["smooth_disfluency"]["codes"].values())
    one = rows[0]["conversation_id"]
    mine = service.get(path, conversation_id=one, action="edit", operator="smooth_disfluency", limit=1000)["data"]
    assert mine == [row for row in rows if row["conversation_id"] == one]


def test_a_diff_spans_datasets_and_tells_recipes_and_counts(
    service: Service, version: dict[str, Any], examples: Path
) -> None:
    plain = {"operators": WINDOWS["operators"][:1]}
    lines = (examples / "dialogues.jsonl").read_bytes().splitlines(keepends=True)
    service.dataset = service.client.post("/v1/datasets", json={"name": "other"}).json()["id"]
    other = service.version(b"".join(lines[5:]), plain)
    found = service.get(f"/v1/versions/{version['id']}/diff", against=other["id"], limit=5)
    counts = found["counts"]
    assert counts["removed"] == 0
    assert counts["added"] == 6
    assert sum(counts.values()) == version["counts"]["conversations_kept"]
    assert [one["change"] for one in found["data"]] == ["added"] * 5
    assert found["has_more"]
    assert found["recipe"]["added"] == [operator["kind"] for operator in WINDOWS["operators"][1:]]
    assert found["version_counts"]["rows"] == {"before": other["counts"]["rows"], "after": version["counts"]["rows"]}
    changed = service.get(f"/v1/versions/{version['id']}/diff", against=other["id"], change="changed", limit=1)["data"][
        0
    ]
    trace = service.get(f"/v1/versions/{version['id']}/conversations/{changed['id']}")["trace"]
    assert set(changed["operators"]) == {row["operator"] for row in trace} - {"structure_dialogue"}


def test_progress_is_counted_in_the_database(service: Service, version: dict[str, Any]) -> None:
    with writing() as session:
        session.add_all([
            Work(id="w-1", kind="curate", subject="ver-x", ordinal=0, state="done", result={"counts": {"conversations_in": 7}}),
            Work(id="w-2", kind="curate", subject="ver-x", ordinal=1, state="leased"),
            Work(id="w-3", kind="close", subject="ver-x", ordinal=0, state="done"),
        ])  # fmt: skip
        assert progress_of(session, ["ver-x", "ver-y"]) == {"ver-x": Progress(1, 2, 7), "ver-y": Progress()}
        session.rollback()
    assert version["progress"]["conversations_done"] == version["counts"]["conversations_in"]


def test_the_api_describes_every_route_once(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    asked = paths["/v1/versions/{version_id}/export"]["get"]
    assert "application/vnd.apache.parquet" in asked["responses"]["200"]["content"]
    assert list(paths["/downloads/{sha256}/{name}"]) == ["get"]


def test_operators_and_the_default_recipe_are_described(service: Service) -> None:
    listed = {operator["kind"]: operator for operator in service.get("/v1/operators")["data"]}
    for operator in service.get("/v1/recipes/default")["operators"]:
        known = listed[operator.pop("kind")]
        assert known["scope"] in ("turn", "conversation", "dataset")
        assert known["version"] >= 1
        assert known["codes"]
        assert set(operator) == set(known["config_schema"]["properties"])
