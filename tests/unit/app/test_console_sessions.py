"""Sessions of the console: a cookie that only this service can write, no good without its token, and bound to a key."""

import re
import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.console.sessions import COOKIE
from app.db import writing
from app.models import ApiKey

Key = Callable[..., dict[str, str]]


def sign_in(client: TestClient, headers: dict[str, str]) -> str:
    """Signs in with a key; returns the token that changes must bear."""
    form = {"key": headers["Authorization"].removeprefix("Bearer ")}
    answer = client.post("/console/sign-in", data=form, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    told = answer.headers["set-cookie"].lower()
    assert "httponly" in told
    assert "samesite=lax" in told
    assert form["key"] not in answer.headers["set-cookie"]
    found = re.search(r'csrf[^>]{0,60}?"([0-9a-f]{64})"', client.get("/console/").text)
    assert found is not None
    return found[1]


def test_a_session_reads_and_changes_with_its_token_only(client: TestClient, key: Key) -> None:
    token = sign_in(client, key("read", "curate"))
    assert client.get("/v1/datasets").status_code == 200
    for forged in ({}, {"x-csrf-token": "0" * 64}, {"x-csrf-token": token[:-1]}, {"x-csrf-token": "é".encode()}):
        refused = client.post("/v1/datasets", json={"name": "a"}, headers=forged)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf")
    assert client.post("/v1/datasets", json={"name": "a"}, headers={"x-csrf-token": token}).status_code == 201
    assert (
        client.post("/v1/keys", json={"name": "a", "scopes": ["read"]}, headers={"x-csrf-token": token}).status_code
        == 403
    )


@pytest.mark.parametrize("change", ["key", "time", "signature"])
def test_a_forged_session_opens_nothing(client: TestClient, key: Key, change: str) -> None:
    sign_in(client, key("read"))
    cookie = client.cookies[COOKIE].strip('"')
    name, expires, nonce, signature = cookie.split(".")
    parts = {
        "key": ["key-" + "0" * 24, expires, nonce, signature],
        "time": [name, str(int(expires) + 1), nonce, signature],
        "signature": [name, expires, nonce, "0" * 64],
    }[change]
    client.cookies.clear()
    assert client.get("/v1/datasets", headers={"cookie": f"{COOKIE}={cookie}"}).status_code == 200
    assert client.get("/v1/datasets", headers={"cookie": f"{COOKIE}={'.'.join(parts)}"}).status_code == 401


def test_a_session_ends_with_its_key_and_with_its_time(
    client: TestClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.sessions.LASTS_S", 1)
    form = {"key": key("read")["Authorization"].removeprefix("Bearer ")}
    cookies = [client.post("/console/sign-in", data=form, follow_redirects=False).headers["set-cookie"]]
    monkeypatch.setattr("app.console.sessions.LASTS_S", 3600)
    cookies.append(client.post("/console/sign-in", data=form, follow_redirects=False).headers["set-cookie"])
    client.cookies.clear()

    def statuses() -> list[int]:
        asked = [{"cookie": cookie.partition(";")[0]} for cookie in cookies]
        return [client.get("/v1/datasets", headers=headers).status_code for headers in asked]

    time.sleep(1.1)
    assert statuses() == [401, 200]
    with writing() as session:
        session.execute(update(ApiKey).values(revoked_at=time.time()))
    assert statuses() == [401, 401]


def test_another_site_signs_nobody_in(client: TestClient, key: Key) -> None:
    form = {"key": key("read")["Authorization"].removeprefix("Bearer ")}
    answer = client.post("/console/sign-in", data=form, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert COOKIE not in client.cookies


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/console/\\evil", "/console//evil.example", "javascript:alert(1)"],
)
def test_no_link_leads_elsewhere_after_signing_in(client: TestClient, key: Key, target: str) -> None:
    form = {"key": key("read")["Authorization"].removeprefix("Bearer "), "next": target}
    answer = client.post("/console/sign-in", data=form, follow_redirects=False)
    assert answer.headers["location"] == "/console/"


def test_pages_take_scripts_from_here_only_and_stand_in_no_frame(client: TestClient) -> None:
    policy = client.get("/console/sign-in").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
