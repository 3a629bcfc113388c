"""Signing in, what a session may do to the API, and what strangers may not."""

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from app.console import sessions

Keys = Callable[..., dict[str, str]]


@pytest.fixture
def token(key: Keys) -> str:
    return key("read", "curate")["Authorization"].removeprefix("Bearer ")


def _sign_in(client: TestClient, token: str) -> str:
    """Returns the session's token against forged requests."""
    answer = client.post("/console/sign-in", data={"key": token}, follow_redirects=False)
    assert answer.status_code == 303
    flags = answer.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=lax" in flags
    assert token not in flags
    found = re.search(r'name="csrf" content="([0-9a-f]{64})"', client.get("/console/files").text)
    assert found is not None
    return found[1]


def test_the_session_reads_the_api_and_changes_it_by_its_token_only(client: TestClient, token: str) -> None:
    csrf = _sign_in(client, token)
    assert client.get("/v1/datasets").status_code == 200
    forged = client.post("/v1/datasets", json={"name": "forged"})
    assert (forged.status_code, forged.json()["error"]["code"]) == (403, "csrf")
    made = client.post("/v1/datasets", json={"name": "mine"}, headers={sessions.CSRF_HEADER: csrf})
    assert made.status_code == 201
    assert client.post("/v1/keys", json={"name": "k", "scopes": ["read"]}, headers={sessions.CSRF_HEADER: csrf}).status_code == 403  # fmt: skip


def test_a_changed_cookie_is_no_session(client: TestClient, token: str) -> None:
    _sign_in(client, token)
    good = client.cookies[sessions.COOKIE]
    name, expires, nonce, signature = good.split(".")
    for wrong in (
        f"{name}.{int(expires) + 1}.{nonce}.{signature}",
        f"key-{'0' * 24}.{expires}.{nonce}.{signature}",
        f"{name}.{expires}.{nonce}.{signature[::-1]}",
        "",
    ):
        client.cookies.clear()
        client.cookies.set(sessions.COOKIE, wrong)
        assert client.get("/v1/datasets").status_code == 401


def test_a_session_ends_with_time(client: TestClient, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _sign_in(client, token)
    later = sessions.time.time() + sessions.LASTS_S + 1
    monkeypatch.setattr(sessions.time, "time", lambda: later)
    assert client.get("/v1/datasets").status_code == 401


def test_revoking_the_key_ends_its_sessions(client: TestClient, token: str, key: Keys) -> None:
    _sign_in(client, token)
    name = client.cookies[sessions.COOKIE].split(".")[0]
    assert client.delete(f"/v1/keys/{name}", headers=key("admin")).status_code == 200
    assert client.get("/v1/datasets").status_code == 401
    answer = client.get("/console/files", follow_redirects=False)
    assert answer.headers["location"] == "/console/sign-in?next=%2Fconsole%2Ffiles"


def test_signing_out_needs_the_token_and_ends_the_session(client: TestClient, token: str) -> None:
    csrf = _sign_in(client, token)
    assert client.post("/console/sign-out", data={"csrf": "0" * 64}).status_code == 403
    assert client.get("/v1/datasets").status_code == 200
    client.post("/console/sign-out", data={"csrf": csrf})
    assert client.get("/v1/datasets").status_code == 401


def test_signing_in_leads_into_the_console_only(client: TestClient, token: str) -> None:
    for target in ("https://evil.example/", "//evil.example", "/console//evil", "/console/\\evil", "/v1/files"):
        answer = client.post("/console/sign-in", data={"key": token, "next": target}, follow_redirects=False)
        assert answer.headers["location"] == "/console/", target


def test_another_site_cannot_sign_a_user_in(client: TestClient, token: str) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    answer = client.post("/console/sign-in", data={"key": token}, headers=headers, follow_redirects=False)
    assert answer.status_code == 403
    assert sessions.COOKIE not in client.cookies


def test_pages_forbid_frames_scripts_and_strangers(client: TestClient, token: str) -> None:
    _sign_in(client, token)
    headers = client.get("/console/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"


def test_pages_of_the_admin_are_for_the_admin(client: TestClient, token: str) -> None:
    _sign_in(client, token)
    for page in ("keys", "audit", "dead-letters"):
        assert client.get(f"/console/{page}").status_code == 403
    assert "/console/keys" not in client.get("/console/").text


def test_a_key_that_may_not_read_sees_no_page(client: TestClient, key: Keys) -> None:
    token = key("train")["Authorization"].removeprefix("Bearer ")
    client.post("/console/sign-in", data={"key": token})
    assert client.get("/console/files").status_code == 403
