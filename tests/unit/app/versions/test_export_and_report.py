"""What leaves the service: exports that come back the same, and the report."""

import re
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from versions_in_process import WINDOWS, Service


@pytest.mark.parametrize("format", ["openai", "sharegpt", "alpaca", "parquet"])
def test_an_export_uploaded_again_gives_the_same_messages(
    service: Service, version: dict[str, Any], format: str
) -> None:
    first = service.client.get(f"/v1/versions/{version['id']}/export", params={"format": format})
    assert first.status_code == 200
    cached = service.client.get(
        f"/v1/versions/{version['id']}/export",
        params={"format": format},
        headers={"if-none-match": first.headers["etag"]},
    )
    assert (cached.status_code, cached.content) == (304, b"")
    name = re.search(r'filename="([^"]+)"', first.headers["content-disposition"])
    assert name is not None
    again = service.version(first.content, {"operators": []}, name=name[1])
    assert again["status"] == "succeeded", again["error"]
    assert again["counts"]["conversations_kept"] == version["counts"]["rows"]

    def rows(version_id: str) -> dict[str, list[dict[str, Any]]]:
        lines = service.client.get(f"/v1/versions/{version_id}/export", params={"format": "parquet"}).content
        return {row["id"]: row["messages"] for row in pl.read_parquet(lines).to_dicts()}

    sent, back = rows(version["id"]), rows(again["id"])
    if format == "alpaca":
        sent, back = ({i: [(m["role"], m["content"]) for m in ms] for i, ms in one.items()} for one in (sent, back))  # type: ignore[misc]
    elif format != "parquet":
        replies = [message for messages in sent.values() for message in messages if message["role"] == "assistant"]
        for message in replies:
            message["weight"] = 1 if message["weight"] is None else message["weight"]
    assert back == sent


def test_an_unknown_format_is_refused_by_name(service: Service, version: dict[str, Any]) -> None:
    answer = service.client.get(f"/v1/versions/{version['id']}/export", params={"format": "csv"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "format")


class _Page(HTMLParser):
    """Which elements and attributes a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_report_tells_the_story_in_three_forms(service: Service, version: dict[str, Any]) -> None:
    path = f"/v1/versions/{version['id']}/report"
    told = service.get(path)
    assert (
        told["counts"]["conversations_in"]
        == told["counts"]["conversations_kept"] + told["counts"]["conversations_dropped"]
    )
    assert sum(reason["conversations"] for reason in told["reasons"]) == told["counts"]["conversations_dropped"]
    for classes in told["lengths"].values():
        assert sum(one["conversations"] for one in classes) == told["counts"]["conversations_kept"]
    examples = {operator["kind"]: operator["examples"] for operator in told["operators"]}
    assert list(examples) == [operator["kind"] for operator in WINDOWS["operators"]]
    assert len(examples["smooth_disfluency"]) == 5
    assert {one["code"] for one in examples["smooth_disfluency"]} == set(
        version["counts"]["by_operator"]["smooth_disfluency"]["codes"]
    )
    assert told["files"][0]["counts"]["quarantined"] == 0
    page = service.client.get(path, params={"format": "html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    parsed = _Page()
    parsed.feed(page.text)
    assert not parsed.tags & {"script", "link", "img", "iframe", "b"}
    assert not parsed.attributes & {"src", "href", "onclick", "onload"}
    assert "&lt;b&gt;calls.jsonl" in page.text
    assert "prefers-color-scheme: dark" in page.text
    text = service.client.get(path, params={"format": "md"})
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "<b>" not in text.text
    etag = {"if-none-match": text.headers["etag"]}
    assert service.client.get(path, params={"format": "md"}, headers=etag).status_code == 304


def test_a_report_of_nothing_is_one_too(service: Service) -> None:
    empty = service.version(b'{"messages":[]}\n')
    for format in ("html", "md"):
        answer = service.client.get(f"/v1/versions/{empty['id']}/report", params={"format": format})
        assert answer.status_code == 200
        assert "keeps no conversation" in answer.text
