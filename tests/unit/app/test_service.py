"""The routes: scopes on every one, errors as problems, hostile input never a 500."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.auth import SCOPES
from app.db import writing
from app.main import create_app
from app.models import File

Key = Callable[..., dict[str, str]]

WITHOUT_KEY = ("/", "/console", "/console/sign-in", "/console/language/{language}", "/downloads/{sha256}/{name}")
"""Routes that ask for no key: the way in, and URLs that are signed instead, whose forgery is tested in test_parquet.py."""


def _all_routes() -> list[tuple[str, APIRoute]]:
    """(method, route) of all that the application answers, but the probes and its own description."""
    included = [router for route in create_app().routes if (router := getattr(route, "original_router", None))]
    routes = [route for router in included for route in router.routes if isinstance(route, APIRoute)]
    return [(method, route) for route in routes for method in sorted(route.methods)]


def _routes() -> list[tuple[str, str, str]]:
    """(method, path, scope) of every route of the API, from the application itself."""
    return [
        (method, route.path, next((s for call in route.dependencies for s in getattr(call, "scopes", ())), ""))
        for method, route in _all_routes()
        if route.path.startswith("/v1/")
    ]


def _named(path: str) -> str:
    """The path with something in place of every parameter."""
    return re.sub(r"\{(\w+)(:path)?\}", "x", path)


def test_every_route_names_its_scope() -> None:
    routes = _routes()
    assert len(routes) > 30
    assert [route for route in routes if route[2] not in SCOPES] == []


def test_no_route_lets_anyone_in_without_its_scope(client: TestClient, key: Key) -> None:
    for method, path, scope in _routes():
        url = _named(path)
        others = key(*(SCOPES - {scope}))
        assert client.request(method, url).status_code == 401, (method, path)
        assert client.request(method, url, headers={"Authorization": "Bearer tm_wrong"}).status_code == 401
        answer = client.request(method, url, headers=others)
        assert answer.status_code == 403, (method, path)
        assert scope in answer.json()["detail"]


def test_no_page_opens_without_a_session(client: TestClient, key: Key) -> None:
    pages = [(method, route.path) for method, route in _all_routes() if not route.path.startswith("/v1/")]
    asked = [(method, path) for method, path in pages if path not in WITHOUT_KEY]
    assert len(asked) > 20
    for method, path in asked:
        for headers in ({}, key(*SCOPES), {"Cookie": "talkmill_session=key-" + "0" * 24 + ".9999999999." + "0" * 97}):
            answer = client.request(method, _named(path), headers=headers, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"][:16]) == (303, "/console/sign-in"), (method, path)


def test_an_error_is_a_problem_with_the_openai_member(client: TestClient, key: Key) -> None:
    answer = client.get("/v1/files/file-000000000000000000000000", headers={**key("read"), "x-request-id": "mine-1"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine-1"
    body = answer.json()
    assert {"type", "title", "status", "detail", "instance", "error"} <= set(body)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert client.get("/nowhere").json()["status"] == 404
    assert client.post("/healthz").json()["status"] == 405


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/datasets", {"name": ""}, "name"),
        ("/v1/datasets", {"name": "a", "colour": "red"}, "colour"),
        ("/v1/lexicons", {"name": "a", "words": []}, "words"),
        ("/v1/keys", {"name": "a", "scopes": ["root"]}, "scopes[0]"),
        ("/v1/fine_tuning/jobs", {"model": "scratch:tiny", "training_file": "../etc"}, "training_file"),
        ("/v1/chat/completions", {"model": "m", "messages": []}, "messages"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, key: Key, path: str, body: dict[str, object], param: str) -> None:
    answer = client.post(path, json=body, headers=key(*SCOPES))
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == param


def test_hostile_bodies_and_ids_never_break_the_service(client: TestClient, key: Key) -> None:
    headers = key(*SCOPES)
    bodies = [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 5000, b'{"name":"\\ud800"}', b'{"name":1e999}', b'"text"']
    ids = ["..%2f..%2fetc%2fpasswd", "%00", "file-" + "0" * 24, "'; DROP TABLE files; --", "x" * 2000]
    for method, path, _ in _routes():
        for hostile in ids:
            url = path.replace(":path", "")
            while "{" in url:
                url = url[: url.index("{")] + hostile + url[url.index("}") + 1 :]
            assert client.request(method, url, headers=headers).status_code < 500, (method, url)
        if method in ("POST", "PATCH"):
            for body in bodies:
                url = path.split("{")[0].rstrip("/") if "{" in path else path
                sent = client.request(
                    method, url, content=body, headers={**headers, "content-type": "application/json"}
                )
                assert sent.status_code < 500, (method, url, body)


def test_a_revoked_key_opens_nothing(client: TestClient, key: Key) -> None:
    admin = key("admin")
    made = client.post("/v1/keys", json={"name": "guest", "scopes": ["read"]}, headers=admin).json()
    guest = {"Authorization": f"Bearer {made['key']}"}
    assert client.get("/v1/files", headers=guest).status_code == 200
    assert client.delete(f"/v1/keys/{made['id']}", headers=admin).json()["revoked_at"] is not None
    assert client.get("/v1/files", headers=guest).status_code == 401
    assert made["key"] not in client.get("/v1/keys", headers=admin).text


def test_a_file_in_use_is_not_deleted(client: TestClient, key: Key) -> None:
    headers = key("read", "curate")
    file = client.post(
        "/v1/files", files={"file": ("a", b"{}")}, data={"purpose": "conversations"}, headers=headers
    ).json()
    dataset = client.post("/v1/datasets", json={"name": "a"}, headers=headers).json()
    version = client.post(f"/v1/datasets/{dataset['id']}/versions", json={"files": [file["id"]]}, headers=headers)
    assert version.status_code == 202
    refused = client.delete(f"/v1/files/{file['id']}", headers=headers)
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    assert version.json()["id"] in refused.json()["detail"]
    assert client.get(f"/v1/versions/{version.json()['id']}/trace", headers=headers).status_code == 409


def test_lists_come_in_pages(client: TestClient, key: Key) -> None:
    headers = key("read", "curate")
    ids = [client.post("/v1/datasets", json={"name": str(i)}, headers=headers).json()["id"] for i in range(5)]
    seen: list[str] = []
    after = None
    while True:
        page = client.get(
            "/v1/datasets", params={"limit": 2} | ({"after": after} if after else {}), headers=headers
        ).json()
        seen += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        after = seen[-1]
    assert seen == ids[::-1]


def test_the_service_starts_without_heavy_libraries() -> None:
    code = "import sys, app.main; print([m for m in ('torch','transformers','polars','celery') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_what_never_changes_is_sent_once(client: TestClient, key: Key) -> None:
    headers = key("read", "curate")
    made = client.post("/v1/lexicons", json={"name": "a", "words": ["b"]}, headers=headers).json()
    first = client.get(f"/v1/lexicons/{made['id']}", headers=headers)
    again = client.get(f"/v1/lexicons/{made['id']}", headers={**headers, "if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")

    sent = {"files": {"file": ("a", b"{}")}, "data": {"purpose": "conversations"}}
    url = f"/v1/files/{client.post('/v1/files', headers=headers, **sent).json()['id']}"  # type: ignore[arg-type]
    assert "etag" not in client.get(url, headers=headers).headers  # its ingest is still to come
    with writing() as session:
        session.execute(update(File).values(status="processed"))
    etag = client.get(url, headers=headers).headers["etag"]
    assert client.get(url, headers={**headers, "if-none-match": etag}).status_code == 304
