"""What no client of good will sends, over a real socket: it is refused, costs nothing, and the service goes on."""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from app.main import create_app

DATASETS = "POST /v1/datasets HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.fixture
def port(client: TestClient) -> Iterator[int]:
    """The application behind the server that it runs on, on the database of `client`."""
    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def bearer(key: Callable[..., dict[str, str]]) -> str:
    return f"Authorization: {key('curate', 'read')['Authorization']}\r\n"


def say(port: int, *pieces: str | bytes, pause_s: float = 0.0) -> tuple[int, bytes]:
    """Status and body of the answer to what is sent piece by piece; 0 where there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece.encode() if isinstance(piece, str) else piece)
                time.sleep(pause_s)
        except OSError:  # hung up on already
            pass
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
                head, _, body = answer.partition(b"\r\n\r\n")
                if b"\r\n\r\n" in answer and body:
                    return int(head.split()[1]), body
        except OSError:
            pass
    return (int(answer.split()[1]), b"") if answer else (0, b"")


@pytest.mark.parametrize(
    "head",
    [
        f"GET /v1/files HTTP/1.1\r\nHost: a\r\nX-Large: {'x' * 1_000_000}\r\n\r\n",
        "GET /v1/files HTTP/1.1\r\nHost: a\r\n" + "".join(f"X-{n}: {n}\r\n" for n in range(50_000)) + "\r\n",
        f"GET /v1/{'x' * 1_000_000} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer tm_\x00\r\n\r\n",
        "GET\r\n\r\n",
        "POST /v1/datasets HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/datasets HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /v1/datasets HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        "\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["header", "headers", "address", "NUL", "line", "negative", "two lengths", "chunks", "TLS"],
)
def test_what_is_no_request_is_refused(port: int, head: str) -> None:
    status, _ = say(port, head, "\r\n\r\n")
    assert status == 0 or 400 <= status < 500
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok"}


def test_a_body_that_stops_coming_is_hung_up_on(port: int, bearer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.slow_bodies.IDLE_S", 0.5)
    started = time.monotonic()
    status, body = say(port, f"{DATASETS}{bearer}Content-Length: 100\r\n\r\n", '{"name":')
    assert (status, json.loads(body)["status"]) == (408, 408)
    assert time.monotonic() - started < 10


def test_a_slow_body_that_keeps_coming_is_let_in(port: int, bearer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.slow_bodies.IDLE_S", 1.0)
    body = '{"name": "slowly"}'
    head = f"{DATASETS}{bearer}Content-Length: {len(body)}\r\n\r\n"
    status, answer = say(port, head, *body, pause_s=0.1)
    assert (status, json.loads(answer)["name"]) == (201, "slowly")


def test_many_slow_ones_do_not_keep_others_out(port: int, bearer: str) -> None:
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for connection in slow:
        connection.sendall(f"{DATASETS}{bearer}Content-Length: 100\r\n\r\n{{".encode())
    try:
        name, _, value = bearer.strip().partition(": ")
        assert httpx.get(f"http://127.0.0.1:{port}/v1/datasets", headers={name: value}, timeout=10).status_code == 200
    finally:
        for connection in slow:
            connection.close()


def test_the_page_of_the_api_takes_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert "http://" not in page.text
    assert "https://" not in page.text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(address).status_code == 200, address
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in page.headers["content-security-policy"]
    assert client.get("/redoc").status_code == 404


def test_strangers_are_told_before_their_body_is_read(port: int) -> None:
    head = "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    status, body = say(port, f"{head}Content-Length: 1000000000\r\n\r\n", "--b\r\n")
    assert (status, json.loads(body)["error"]["code"]) == (401, "missing_key")
