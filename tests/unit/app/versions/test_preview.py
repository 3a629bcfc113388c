"""Recipes tried on a few conversations."""

import json
import time
from pathlib import Path
from typing import Any

from versions_in_process import WINDOWS, Service


def test_a_preview_makes_what_a_version_makes(service: Service, version: dict[str, Any], examples: Path) -> None:
    lines = [json.loads(line) for line in (examples / "dialogues.jsonl").read_text("utf-8").splitlines()[:100]]
    body = {"recipe": WINDOWS, "conversations": lines}
    service.client.post("/v1/recipes/preview", json=body)
    started = time.monotonic()
    answer = service.client.post("/v1/recipes/preview", json=body)
    assert time.monotonic() - started < 3
    assert answer.status_code == 200, answer.text
    previewed = answer.json()["conversations"]
    assert [one["original"]["id"] for one in previewed] == [line["id"] for line in lines]
    for one in previewed[:20]:
        stored = service.get(f"/v1/versions/{version['id']}/conversations/{one['original']['id']}")
        assert one == stored


def test_a_preview_takes_conversations_without_ids_twice_and_dropped(service: Service) -> None:
    said = {"messages": [{"role": "user", "content": "呃，你好"}, {"role": "assistant", "content": "您好"}]}
    alone = {"id": "x", "messages": [{"role": "user", "content": "喂"}]}
    conversations = [said, {**said, "id": "x"}, alone, {**said, "id": "x"}, said]
    previewed = service.client.post("/v1/recipes/preview", json={"conversations": conversations}).json()[
        "conversations"
    ]
    assert [one["original"]["id"] for one in previewed] == ["preview:0", "x", "x", "x", "preview:4"]
    assert previewed[2]["curated"] is None
    assert previewed[2]["dropped"]["operator"] == "structure_dialogue"
    assert previewed[0]["curated"]["id"] == "preview:0"
    for index in (0, 1, 3, 4):
        one = previewed[index]
        assert one["dropped"] == (None if index == 0 else {"operator": "deduplicate", "code": "exact"})
        assert {row["conversation_id"] for row in one["trace"]} == {one["original"]["id"]}
        assert one["trace"][0]["before"] == "呃，"
        assert index == 0 or one["trace"][-1]["after"] == "preview:0"
    assert service.client.post("/v1/recipes/preview", json={"conversations": []}).json()["conversations"] == []


def test_a_preview_names_what_is_wrong(service: Service) -> None:
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    for body, param in [
        (b'{"conversations":[%s,{"messages":[{"role":"alien","content":"x"}]}]}' % json.dumps(good).encode(), "conversations[1].messages[0].role"),
        (b'{"conversations":["text"]}', "conversations[0]"),
        (b'{"conversations":[{"messages":[{"role":"user","content":"\\ud800"}]}]}', "conversations[0]"),
        (b'{"conversations":[{"messages":[{"role":"user","content":"x"}],"meta":{"n":1e999}}]}', "conversations[0]"),
        (b'{"conversations":[],"recipe":{"operators":[{"kind":"nonsense"}]}}', "recipe.operators[0].kind"),
        (b'{"conversations":[%s]}' % b",".join([json.dumps(good).encode()] * 101), "conversations"),
    ]:  # fmt: skip
        answer = service.client.post("/v1/recipes/preview", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, (answer.text, param)
        assert answer.json()["error"]["param"] == param
