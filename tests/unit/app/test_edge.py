"""What holds for every route: keys and scopes, problems, request ids, and that bad input never ends in a 500."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from app.auth import SCOPES
from app.main import create_app

OPEN_PATHS = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
ID = "0123456789abcdef01234567"
GOOD_IDS = {
    "file_id": f"file-{ID}",
    "dataset_id": f"ds-{ID}",
    "version_id": f"ver-{ID}",
    "lexicon_id": f"lex-{ID}",
    "job_id": f"ftjob-{ID}",
    "key_id": f"key-{ID}",
}
HOSTILE_TEXTS = ["", "%00", "\u202e", "'; DROP TABLE files; --", "../../etc/passwd", "x" * 5000, "𝕏" * 300, "%ED%A0%80"]
HOSTILE_BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b'"x"',
    b"\xff\xfe",
    b'{"name":"\\ud800"}',
    b'{"name":"a\\u0000b","words":["\\u0000"],"files":["\\u0000"]}',
    b'{"name":NaN,"seed":1e999,"expires_in_s":Infinity}',
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"name":' + b"9" * 5000 + b"}",
]


def _routes() -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(create_app().routes):
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield method, str(route.path)


ROUTES = [(method, path) for method, path in _routes() if path not in OPEN_PATHS]


def _filled(path: str, values: dict[str, str] | None = None) -> str:
    for name, value in (GOOD_IDS if values is None else values).items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{conversation_id:path}", "a/1").replace("{name:path}", "config.json")


def _is_problem(response: Any) -> bool:
    body = response.json()
    return (
        response.headers["content-type"] == "application/problem+json"
        and {"type", "title", "status", "detail", "instance", "error"} <= set(body)
        and {"message", "type", "param", "code"} <= set(body["error"])
        and body["status"] == response.status_code
        and bool(response.headers["x-request-id"])
    )


def test_the_route_table_is_not_empty() -> None:
    assert len(ROUTES) > 30


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_for_a_key(method: str, path: str) -> None:
    response = TestClient(create_app()).request(method, _filled(path))
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert _is_problem(response)


def test_each_route_opens_to_exactly_one_scope(client_with: Callable[..., TestClient]) -> None:
    clients = {scope: client_with(scope) for scope in SCOPES}
    for method, path in ROUTES:
        opened = [name for name, client in clients.items() if client.request(method, _filled(path)).status_code != 403]
        assert len(opened) == 1, (method, path, opened)
        if method == "GET":
            assert opened == ["admin" if "/keys" in path else "read"], path


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer tm_no", "Basic tm_no", "Bearer \xff", "Bearer " + "x" * 9000]
)
def test_a_bad_key_is_refused(authorization: str) -> None:
    headers = {"Authorization": authorization.encode("latin-1")}
    assert TestClient(create_app()).get("/v1/files", headers=headers).status_code == 401


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_hostile_input_never_ends_in_a_500(client: TestClient, method: str, path: str) -> None:
    names = ("after", "limit", "q", "operator", "by", "where", "metric", "format", "purpose", "points", "crowd")
    for text in HOSTILE_TEXTS:
        for values in (GOOD_IDS, dict.fromkeys(GOOD_IDS, text or "x")):
            query = "&".join(f"{name}={text}" for name in names)
            response = client.request(method, f"{_filled(path, values)}?{query}")
            assert response.status_code < 500, (text, response.text)
    if method in ("POST", "PATCH"):
        for body in HOSTILE_BODIES:
            response = client.request(method, _filled(path), content=body, headers={"content-type": "application/json"})
            assert 400 <= response.status_code < 500, (body[:50], response.text)
            assert _is_problem(response)


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/nothing", 404), ("/v1/files/no", 404), (f"/v1/files/file-{ID}", 404)]
)
def test_what_does_not_exist_is_a_problem(client: TestClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert _is_problem(response)


def test_a_wrong_method_is_a_problem(client: TestClient) -> None:
    response = client.put("/v1/files")
    assert response.status_code == 405
    assert _is_problem(response)


def test_a_fault_of_ours_shows_and_logs_nothing_of_the_user(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("what the user wrote")

    monkeypatch.setattr("app.datasets.repository.get_dataset", fail)
    response = client.get(f"/v1/datasets/ds-{ID}")
    assert response.status_code == 500
    assert _is_problem(response)
    assert "what the user wrote" not in response.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_an_expired_or_revoked_key_opens_nothing(client: TestClient) -> None:
    made = client.post("/v1/keys", json={"name": "k", "scopes": ["read"], "expires_in_s": 0.01})
    assert made.status_code == 201
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    assert client.get("/v1/files", headers=headers).status_code == 401
    other = client.post("/v1/keys", json={"name": "k", "scopes": ["read"]}).json()
    headers = {"Authorization": f"Bearer {other['key']}"}
    assert client.get("/v1/files", headers=headers).status_code == 200
    assert client.delete(f"/v1/keys/{other['id']}").status_code == 200
    assert client.get("/v1/files", headers=headers).status_code == 401
    listed = client.get("/v1/keys").json()["data"]
    assert all("key" not in row and "hash" not in row for row in listed)


def test_readyz_names_what_is_away() -> None:
    """Nothing listens at the tests' broker address."""
    response = TestClient(create_app()).get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] == response.json()["store"] == "ok"
    assert response.json()["broker"] != "ok"


def test_the_application_imports_without_the_heavy_libraries_and_fast() -> None:
    code = (
        "import time; t = time.perf_counter(); import app.main; s = time.perf_counter() - t; import sys;"
        "print(s, [m for m in ('torch','transformers','polars','celery','pyarrow') if m in sys.modules])"
    )
    seconds, heavy = [], ""
    for _ in range(3):  # the quickest of three: another process may hold the machine
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        took, _, heavy = out.strip().partition(" ")
        seconds.append(float(took))
    assert heavy == "[]"
    assert min(seconds) < 0.5, seconds
