"""A request that is sent again makes one resource; two requests make two."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.db import writing
from app.models import KeptAnswer
from app.once import MARKED_FOR_S, forget_old_answers

MARKED = {"x-stainless-retry-count": "1"}


def _ids(client: TestClient, path: str, headers: dict[str, str]) -> list[str]:
    return [item["id"] for item in client.get(path, headers=headers).json()["data"]]


def test_a_key_gives_one_resource_and_refuses_another_body(client: TestClient, everything: dict[str, str]) -> None:
    keyed = {**everything, "Idempotency-Key": "order-1"}
    first = client.post("/v1/datasets", json={"name": "a", "description": "b"}, headers=keyed)
    again = client.post(
        "/v1/datasets",
        content=b'{"description":"b",\n "name":"a"}',
        headers={**keyed, "content-type": "application/json"},
    )
    assert again.json() == first.json()
    assert again.status_code == first.status_code == 201
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post("/v1/datasets", json={"name": "c"}, headers=keyed)
    assert other.status_code == 409
    assert other.headers["x-should-retry"] == "false"
    elsewhere = client.post("/v1/lexicons", json={"name": "a", "words": ["b"]}, headers=keyed)
    assert elsewhere.status_code == 409
    assert _ids(client, "/v1/datasets", everything) == [first.json()["id"]]


def test_a_refused_request_is_not_kept(client: TestClient, everything: dict[str, str]) -> None:
    keyed = {**everything, "Idempotency-Key": "order-2"}
    assert client.post("/v1/datasets", json={"name": ""}, headers=keyed).status_code == 422
    assert client.post("/v1/datasets", json={"name": "a"}, headers=keyed).status_code == 201


def test_only_marked_retries_are_the_same_request(client: TestClient, everything: dict[str, str]) -> None:
    made = [client.post("/v1/datasets", json={"name": "a"}, headers=everything).json()["id"] for _ in range(2)]
    assert len(set(made)) == 2
    retried = client.post("/v1/datasets", json={"name": "a"}, headers={**everything, **MARKED})
    assert retried.json()["id"] == made[-1]
    assert client.post("/v1/datasets", json={"name": "b"}, headers={**everything, **MARKED}).json()["id"] not in made
    with writing() as session:
        for answer in session.query(KeptAnswer):
            answer.created_at -= MARKED_FOR_S + 1
    late = client.post("/v1/datasets", json={"name": "a"}, headers={**everything, **MARKED})
    assert late.json()["id"] not in made
    with writing() as session:
        forget_old_answers(session)
        assert session.query(KeptAnswer).count() == 1


def test_an_upload_is_the_same_whatever_its_boundary(client: TestClient, everything: dict[str, str]) -> None:
    def send(content: bytes, boundary: str) -> Any:
        headers = {**everything, **MARKED, "content-type": f"multipart/form-data; boundary={boundary}"}
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'.encode()
        rest = f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nconversations\r\n--{boundary}--\r\n'.encode()
        return client.post("/v1/files", content=part + content + rest, headers=headers).json()["id"]

    assert send(b'{"a":1}', "one") == send(b'{"a":1}', "two")
    assert send(b'{"a":2}', "one") != send(b'{"a":1}', "one")


def test_another_api_key_is_another_client(client: TestClient, everything: dict[str, str], key: Any) -> None:
    keyed = {"Idempotency-Key": "order-1"}
    mine = client.post("/v1/datasets", json={"name": "a"}, headers={**everything, **keyed})
    theirs = client.post("/v1/datasets", json={"name": "a"}, headers={**key("curate"), **keyed})
    assert mine.json()["id"] != theirs.json()["id"]


def test_a_secret_is_not_kept_for_replays(client: TestClient, everything: dict[str, str]) -> None:
    keyed = {**everything, "Idempotency-Key": "key-1"}
    first = client.post("/v1/keys", json={"name": "a", "scopes": ["read"]}, headers=keyed).json()
    again = client.post("/v1/keys", json={"name": "a", "scopes": ["read"]}, headers=keyed).json()
    assert first["key"].startswith("tm_")
    assert again == {**first, "key": None}
    with writing() as session:
        assert first["key"] not in json.dumps([answer.body for answer in session.query(KeptAnswer)])


@pytest.fixture
def slow_datasets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Datasets that take a while to be made."""
    from app.datasets import routes

    def slowly(prefix: str) -> str:
        time.sleep(0.5)
        return new_id(prefix)

    new_id = routes.new_id
    monkeypatch.setattr(routes, "new_id", slowly)
    yield


@pytest.mark.parametrize("header", [{"Idempotency-Key": "k"}, MARKED])
@pytest.mark.usefixtures("slow_datasets")
def test_a_retry_waits_for_the_request_it_repeats(
    client: TestClient, everything: dict[str, str], header: dict[str, str]
) -> None:
    with client:  # one event loop for all requests, as in the server
        ids: list[str] = []
        first = {**everything, **header} if "Idempotency-Key" in header else everything

        def send(headers: dict[str, str]) -> None:
            ids.append(client.post("/v1/datasets", json={"name": "a"}, headers=headers).json()["id"])

        threads = [
            threading.Thread(target=send, args=(headers,))
            for headers in (first, {**everything, **header}, {**everything, **header})
        ]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert len(set(ids)) == 1
        assert _ids(client, "/v1/datasets", everything) == ids[:1]
