"""What a version can be asked on the real stack, whatever its database and its store."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from running_stack import RunningStack

STRUCTURE = {"operators": [{"kind": "structure_dialogue"}]}


@pytest.fixture(scope="module")
def versions(stack: RunningStack, examples: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The examples by the default recipe, and all but three of them merely structured."""
    content = (examples / "dialogues.jsonl").read_bytes()
    whole = stack.upload("dialogues.jsonl", content)
    fewer = stack.upload("fewer.jsonl", b"".join(content.splitlines(keepends=True)[3:]))
    return stack.version(whole["id"]), stack.version(fewer["id"], recipe=STRUCTURE)


def test_signed_urls_open_without_a_key_and_by_ranges(stack: RunningStack, versions: Any) -> None:
    version = versions[0]
    parts = stack.get(f"/versions/{version['id']}/parquet")["data"]
    assert len(parts) > 1
    ids = pl.concat([pl.read_parquet(part["url"], columns=["id"]) for part in parts])
    assert ids.height == sum(part["rows"] for part in parts) == version["counts"]["rows"]
    content = httpx.get(parts[0]["url"]).content
    middle = httpx.get(parts[0]["url"], headers={"range": "bytes=100-199"})
    assert (middle.status_code, middle.content) == (206, content[100:200])
    assert httpx.get(parts[0]["url"].replace("signature=", "signature=0")).status_code == 403


def test_a_diff_adds_up(stack: RunningStack, versions: Any) -> None:
    version, fewer = versions
    found = stack.get(f"/versions/{version['id']}/diff", against=fewer["id"], limit=3)
    assert found["counts"]["added"] == 3 == len(found["data"])
    repeated = version["counts"]["by_operator"]["deduplicate"]["dropped_conversations"]
    assert found["counts"]["removed"] == repeated > 0
    assert sum(found["counts"].values()) == version["counts"]["conversations_kept"] + repeated
    back = stack.get(f"/versions/{fewer['id']}/diff", against=version["id"], change="removed")
    assert [one["id"] for one in back["data"]] == [one["id"] for one in found["data"]]


def test_every_export_and_report_is_served(stack: RunningStack, versions: Any) -> None:
    version = versions[0]
    for format in ("openai", "sharegpt", "alpaca"):
        response = stack.http.get(f"/versions/{version['id']}/export", params={"format": format})
        assert len(response.content.splitlines()) == version["counts"]["rows"]
    exported = stack.http.get(f"/versions/{version['id']}/export", params={"format": "parquet"}).content
    assert pl.read_parquet(exported).height == version["counts"]["rows"]
    for format in ("html", "md"):
        assert stack.http.get(f"/versions/{version['id']}/report", params={"format": format}).status_code == 200


def test_a_preview_of_a_hundred_conversations_answers_at_once(
    stack: RunningStack, versions: Any, examples: Path
) -> None:
    lines = (examples / "dialogues.jsonl").read_text("utf-8").splitlines()[:100]
    body = {"conversations": [json.loads(line) for line in lines]}
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        previewed = stack.http.post("/recipes/preview", json=body).json()["conversations"]
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1, seconds
    stored = stack.get(f"/versions/{versions[0]['id']}/conversations/{previewed[0]['original']['id']}")
    assert previewed[0]["trace"] == stored["trace"]
