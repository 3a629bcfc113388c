"""A version's Parquet files through a real server, as other tools read them."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fsspec
import httpx
import polars as pl
import pyarrow.parquet as pq
import pytest
import uvicorn
from versions_in_process import Service

from app import downloads
from app.db import reading, writing
from app.models import Secret
from app.shared_secret import shared_secret


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
            made.append(shared_secret(session, downloads.SECRET_NAME))

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
