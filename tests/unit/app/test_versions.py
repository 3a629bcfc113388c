"""What a finished version can be asked over HTTP; its Parquet files through a real server, as other tools read them."""

import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fsspec
import httpx
import polars as pl
import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import select

from app import downloads, migrations
from app.auth import create_key
from app.datasets import token_counts
from app.datasets.repository import Progress, progress_of
from app.datasets.service import open_manifest
from app.db import get_engine, reading, writing
from app.main import create_app
from app.models import Secret, Work
from app.settings import get_settings
from app.store import get_store
from curation import statistics
from trainer.dialogues import load_chat_tokenizer
from worker.tasks import do

WINDOWS = {
    "operators": [
        {"kind": "structure_dialogue"},
        {"kind": "smooth_disfluency"},
        {"kind": "tag_users"},
        {"kind": "match_sensitive_words", "words": ["百家乐"], "action": "mask"},
        {"kind": "truncate_history", "mode": "windows", "max_source_length": 128, "max_target_length": 64},
    ]
}
SCRIPT = "<script>alert(1)</script> | 呃，`code` [x](y)"


class Service:
    """The application with a client that may do everything, and its workers' part done in this process."""

    def __init__(self) -> None:
        with writing() as session:
            _, token = create_key(session, "test", ("read", "curate", "train", "admin"))
        self.client = TestClient(create_app(), headers={"Authorization": f"Bearer {token}"})
        self.dataset = self.client.post("/v1/datasets", json={"name": "calls"}).json()["id"]

    def work(self) -> None:
        while True:
            with reading() as session:
                ids = session.scalars(select(Work.id).where(Work.state == "pending").order_by(Work.created_at)).all()
            if not ids:
                return
            for work_id in ids:
                do(work_id)

    def version(self, content: bytes, recipe: dict[str, Any] | None = None, name: str = "a.jsonl") -> dict[str, Any]:
        form = {"purpose": "conversations"}
        file = self.client.post("/v1/files", files={"file": (name, content)}, data=form).json()
        body = {"files": [file["id"]], "recipe": recipe}
        made = self.client.post(f"/v1/datasets/{self.dataset}/versions", json=body).json()
        self.work()
        return self.get(f"/v1/versions/{made['id']}")

    def get(self, path: str, **params: Any) -> Any:
        answer = self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALKMILL_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")
        patch.setenv("TALKMILL_SEGMENT_BYTES", "65536")
        get_settings.cache_clear()
        migrations.upgrade()
        yield Service()
        get_engine().dispose()
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def version(service: Service, examples: Path) -> dict[str, Any]:
    hostile = {"id": SCRIPT, "messages": [{"role": "user", "content": SCRIPT}, {"role": "assistant", "content": "好"}]}
    content = (examples / "dialogues.jsonl").read_bytes() + json.dumps(hostile).encode()
    made = service.version(content, WINDOWS, name="<b>calls.jsonl")
    assert made["status"] == "succeeded", made["error"]
    assert made["progress"]["shards_total"] > 2
    return made


@pytest.fixture(scope="module")
def served(service: Service) -> Iterator[str]:
    """The same application behind a real server on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(service.client.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def parts(service: Service, version: dict[str, Any], served: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{served}/v1/versions/{version['id']}/parquet", headers=dict(service.client.headers))
    found: list[dict[str, Any]] = answer.json()["data"]
    assert all(part["url"].startswith(f"{served}/downloads/") for part in found)
    return found


# ---- Parquet over signed URLs ----------------------------------------------------------------------------------------


def test_polars_and_pyarrow_read_the_signed_urls(version: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    assert sum(part["rows"] for part in parts) == version["counts"]["rows"]
    for part in parts[:2]:
        assert urlsplit(part["url"]).path.endswith(".parquet")
        frame = pl.read_parquet(part["url"])
        assert frame.height == part["rows"]
        assert pl.scan_parquet(part["url"]).select("conversation_id").collect().height == part["rows"]
        whole = httpx.get(part["url"]).content
        assert pq.ParquetFile(io.BytesIO(whole)).metadata.num_rows == part["rows"]
    ids = pl.concat([pl.read_parquet(part["url"], columns=["conversation_id"]) for part in parts])
    assert ids.n_unique() == version["counts"]["conversations_kept"]


def test_fsspec_reads_a_signed_url_by_ranges(parts: list[dict[str, Any]]) -> None:
    with fsspec.open(parts[0]["url"], "rb", block_size=1_000) as source, pq.ParquetFile(source) as file:
        assert file.read(columns=["id"]).num_rows == parts[0]["rows"]


def test_a_range_is_answered_as_the_standard_says(parts: list[dict[str, Any]]) -> None:
    url = parts[0]["url"]
    whole = httpx.get(url)
    content, etag = whole.content, whole.headers["etag"]
    size = len(content)
    assert (whole.status_code, whole.headers["accept-ranges"], whole.headers["content-length"]) == (
        200,
        "bytes",
        str(size),
    )
    for asked, expected in {
        "bytes=0-3": (0, 4),
        "bytes=10-": (10, size),
        "bytes=-8": (size - 8, size),
        f"bytes=4-{size + 100}": (4, size),
        f"bytes=-{size + 100}": (0, size),
    }.items():
        answer = httpx.get(url, headers={"range": asked})
        assert answer.status_code == 206, asked
        assert answer.content == content[slice(*expected)]
        assert answer.headers["content-range"] == f"bytes {expected[0]}-{expected[1] - 1}/{size}"
    for beyond in (f"bytes={size}-", "bytes=-0"):
        answer = httpx.get(url, headers={"range": beyond})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")
    for ignored in ("bytes=3-1", "bytes=-", "lines=0-1", "bytes=0-1,4-5", f"bytes={'9' * 5000}-"):
        assert httpx.get(url, headers={"range": ignored}).content == content
    head = httpx.head(url, headers={"range": "bytes=0-3"})
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")
    assert httpx.get(url, headers={"if-none-match": etag}).status_code == 304
    assert httpx.get(url, headers={"range": "bytes=0-3", "if-range": etag}).status_code == 206
    assert httpx.get(url, headers={"range": "bytes=0-3", "if-range": '"other"'}).content == content


def test_a_forged_or_expired_url_is_refused(parts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, other = parts[0]["url"], parts[1]["url"]
    query = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
    signature = query["signature"]
    swapped = ("0" if signature[0] != "0" else "1") + signature[1:]
    forged = [
        url.replace(parts[0]["sha256"], parts[1]["sha256"]),
        url.replace(parts[0]["sha256"], "x"),
        url.replace(".parquet?", "2.parquet?"),
        url.replace(f"expires={query['expires']}", f"expires={int(query['expires']) + 3600}"),
        url.replace(f"expires={query['expires']}", "expires=never"),
        url.replace(f"bytes={query['bytes']}", "bytes=4"),
        url.replace(signature, swapped),
        url.replace(signature, "é"),
        url.replace(signature, parse_qs(urlsplit(other).query)["signature"][0]),
        url.split("?")[0],
    ]
    for wrong in forged:
        answer = httpx.get(wrong)
        assert answer.status_code == 403, wrong
        assert answer.headers["content-type"] == "application/problem+json"
    monkeypatch.setattr(downloads.time, "time", lambda: float(query["expires"]) + 1)
    late = httpx.get(url)
    assert (late.status_code, late.json()["error"]["code"]) == (403, "expired")


def test_the_secret_is_made_once(service: Service, version: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    with writing() as session:
        kept = session.get_one(Secret, downloads.SECRET_NAME).value
        session.delete(session.get_one(Secret, downloads.SECRET_NAME))
    made: list[str] = []

    def ask() -> None:
        with reading() as session:
            made.append(downloads._secret(session))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert made[0] != kept
    assert len(made[0]) == 64
    with writing() as session:
        session.get_one(Secret, downloads.SECRET_NAME).value = kept


# ---- exports ---------------------------------------------------------------------------------------------------------


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


# ---- filters ---------------------------------------------------------------------------------------------------------


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


def test_tokens_are_counted_once_and_kept(
    service: Service, version: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/versions/{version['id']}/tags/statistics"
    first = service.get(path, by="gender", metric="tokens")
    rows = pl.concat([pl.read_parquet(get_store().path(part)) for part in _segments(version["id"])])
    tokenizer = load_chat_tokenizer(first["tokenizer"])
    whole = rows.filter(pl.col("window") == 0)["messages"].to_list()
    assert first["total"] >= sum(tokenizer.count(message["content"]) for said in whole for message in said) > 0

    token_counts._counts.cache_clear()  # as after a restart
    monkeypatch.setattr(statistics, "_with_tokens", None)
    assert service.get(path, by="gender", metric="tokens") == first
    assert service.get(path, by="province", metric="tokens", where="gender:female")["total"] == sum(
        row["value"] for row in first["rows"] if row["gender"] == "female"
    )


def _segments(version_id: str) -> list[str]:
    with reading() as session:
        _, manifest = open_manifest(session, version_id)
    return [part["sha256"] for part in manifest["segments"]]


def test_users_tell_where_their_tags_come_from(service: Service) -> None:
    talks = [
        ("a", "我在成都上班", {}),
        ("b", "你好", {"gender": "女"}),
        ("a", "我住在北京", {}),
        (None, "我是男的", {}),
    ]
    said = [
        {
            "id": f"t{number}",
            "user": {**({"id": user} if user else {}), **known},
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "好的"}],
        }
        for number, (user, text, known) in enumerate(talks)
    ]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in said).encode()
    version = service.version(content, {"operators": [{"kind": "tag_users"}]})
    path = f"/v1/versions/{version['id']}/tags/users"
    page = service.get(path, limit=1)
    assert page["has_more"]
    (user,) = page["data"]
    assert (user["user"], user["conversations"]) == ("a", 2)
    assert (user["tags"]["city"]["value"], user["tags"]["city"]["conversation_id"]) == ("北京市", "t2")
    assert [(lost["value"], lost["conversation_id"]) for lost in user["tags"]["city"]["lost"]] == [("成都市", "t0")]
    assert [other["user"] for other in service.get(path, after="a")["data"]] == ["b"]
    assert [other["user"] for other in service.get(path, conflicts=True)["data"]] == ["a"]
    assert service.get(f"/v1/versions/{version['id']}/tags/statistics", by="city", metric="users")["total"] == 3


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


# ---- diff, report, preview, progress ---------------------------------------------------------------------------------


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
