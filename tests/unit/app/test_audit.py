"""The audit log: an entry for every change, in the change's own transaction, which nobody alters."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from app.db import reading, writing
from app.models import AuditEvent

Key = Callable[..., dict[str, str]]


def entries(client: TestClient, admin: dict[str, str], **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/audit", headers=admin, params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_every_change_is_told_and_nothing_else_is(client: TestClient, key: Key) -> None:
    admin, curate = key("admin"), key("curate", "read")
    made = client.post("/v1/datasets", json={"name": "secret name"}, headers={**curate, "x-request-id": "mine"}).json()
    client.patch(f"/v1/datasets/{made['id']}", json={"name": "other"}, headers=curate)
    client.get("/v1/datasets", headers=curate)
    client.post("/v1/datasets", json={"name": ""}, headers=curate)  # refused: nothing changed
    client.post("/v1/lexicons/match", json={"words": ["a"], "text": "a"}, headers=curate)  # changes nothing
    client.delete(f"/v1/datasets/{made['id']}", headers=curate)
    guest = client.post("/v1/keys", json={"name": "guest", "scopes": ["read"]}, headers=admin).json()
    client.delete(f"/v1/keys/{guest['id']}", headers=admin)

    told = entries(client, admin)
    assert [(entry["action"], entry["subject"]) for entry in told] == [
        ("DELETE /v1/keys/{key_id}", guest["id"]),
        ("POST /v1/keys", guest["id"]),
        ("DELETE /v1/datasets/{dataset_id}", made["id"]),
        ("PATCH /v1/datasets/{dataset_id}", made["id"]),
        ("POST /v1/datasets", made["id"]),
    ]
    assert told[-1]["request_id"] == "mine"
    assert told[-1]["address"] == "testclient"
    assert {entry["key_name"] for entry in told} == {"test"}
    assert "secret name" not in str(told)
    assert guest["key"] not in str(told)
    assert [entry["subject"] for entry in entries(client, admin, subject=made["id"])] == [made["id"]] * 3
    assert len(entries(client, admin, key=told[0]["key_id"])) == 2


def test_a_retry_that_makes_nothing_is_told_once(client: TestClient, key: Key) -> None:
    headers = {**key("curate"), "Idempotency-Key": "k"}
    for _ in range(3):
        client.post("/v1/datasets", json={"name": "a"}, headers=headers)
    assert len(entries(client, key("admin"))) == 1


def test_a_change_that_is_undone_is_not_told(client: TestClient, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = key("curate")
    with monkeypatch.context() as patch:
        patch.setattr("app.once.KeptAnswer", lambda **_: 1 / 0)  # after the change, before its commit
        assert client.post("/v1/datasets", json={"name": "a"}, headers=headers).status_code == 500
    assert entries(client, key("admin")) == []
    assert client.get("/v1/datasets", headers=key("read")).json()["data"] == []


@pytest.mark.parametrize("change", [update(AuditEvent).values(action="nothing"), delete(AuditEvent)])
def test_the_database_refuses_to_alter_an_entry(client: TestClient, key: Key, change: Any) -> None:
    client.post("/v1/datasets", json={"name": "a"}, headers=key("curate"))
    with pytest.raises(IntegrityError, match="append-only"), writing() as session:
        session.execute(change)
    with reading() as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 1


def test_only_an_admin_reads_it(client: TestClient, key: Key) -> None:
    assert client.get("/v1/audit", headers=key("read", "curate", "train")).status_code == 403
