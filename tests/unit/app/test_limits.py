"""What the service listens to: requests of a key, strangers at the door; and what it tells Prometheus."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from app.limits import RequestLimits, request_limits
from app.main import MAX_BODY_BYTES
from app.settings import get_settings

Key = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMILL_REQUESTS_PER_MINUTE", "5")
    monkeypatch.setenv("TALKMILL_REFUSALS_PER_MINUTE", "3")
    get_settings.cache_clear()
    request_limits.cache_clear()
    yield  # type: ignore[misc]
    request_limits.cache_clear()


def test_a_key_that_is_used_too_often_waits_and_no_other_does(client: TestClient, key: Key) -> None:
    mine, other = key("read"), key("read")
    assert [client.get("/v1/files", headers=mine).status_code for _ in range(6)] == [200] * 5 + [429]
    refused = client.get("/v1/files", headers=mine)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"] == {
        "message": "the key was used too often within a minute: wait a moment",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert refused.headers["x-request-id"].startswith("req-")
    assert client.get("/v1/files", headers=other).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_guesses_are_soon_not_answered_and_valid_keys_still_are(client: TestClient, key: Key) -> None:
    guesses = [client.get("/v1/files", headers={"Authorization": f"Bearer tm_{n}"}) for n in range(5)]
    assert [guess.status_code for guess in guesses] == [401, 401, 401, 429, 429]
    assert client.get("/v1/files").status_code == 429
    assert client.get("/v1/files", headers=key("read")).status_code == 200


def test_nothing_is_limited_where_the_settings_say_so() -> None:
    limits = RequestLimits(0, 0)
    for _ in range(1000):
        limits.count("key")
        limits.count_refusal("address")


@pytest.mark.parametrize("streamed", [False, True], ids=["said beforehand", "found out on the way"])
def test_a_body_that_is_too_large_is_refused(client: TestClient, key: Key, streamed: bool) -> None:
    size = MAX_BODY_BYTES + 1
    body = (b" " * 2**20 for _ in range(size // 2**20 + 1)) if streamed else b" " * size
    headers = {**key("curate"), "content-type": "application/json"}
    answer = client.post("/v1/datasets", content=body, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["status"] == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_prometheus_hears_of_answers_and_work_and_of_nothing_of_the_users(client: TestClient, key: Key) -> None:
    made = client.post(
        "/v1/files", files={"file": ("secret.jsonl", b"{}")}, data={"purpose": "conversations"}, headers=key("curate")
    )
    client.get("/v1/nowhere/张三", headers=key("read"))
    told = client.get("/metrics")
    assert told.status_code == 200
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'talkmill_requests_total{method="POST",route="/v1/files",status="200"}' in told.text
    assert 'talkmill_work{kind="ingest",state="pending"} 1.0' in told.text
    assert not [text for text in (made.json()["id"], "secret", "张三", "nowhere") if text in told.text]
