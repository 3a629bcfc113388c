"""A key's last use is told, without a request that waits for it."""

import threading
import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from app import last_used as module
from app.last_used import last_used

Key = Callable[..., dict[str, str]]


def test_the_last_use_is_written_while_the_service_runs_and_when_it_ends(
    client: TestClient, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_EVERY_S", 0.05)
    headers, admin = key("read"), key("admin")

    def used_at() -> float | None:
        keys = client.get("/v1/keys", headers=admin).json()["data"]
        return next(row["last_used_at"] for row in keys if row["scopes"] == ["read"])

    with client:
        assert used_at() is None
        client.get("/v1/files", headers=headers)
        began = time.monotonic()
        while used_at() is None:
            assert time.monotonic() - began < 10
            time.sleep(0.02)
        first = used_at()
        monkeypatch.setattr(time, "time", lambda now=time.time: now() + 100)
        client.get("/v1/files", headers=headers)
    last = used_at()
    assert first is not None and last is not None
    assert last >= first + 99


def test_a_use_waits_for_the_database(client: TestClient, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    client.get("/v1/files", headers=key("read"))
    written = threading.Event()

    def away() -> None:
        written.set()
        raise OperationalError("", {}, Exception())

    with monkeypatch.context() as patch:
        patch.setattr(module, "writing", away)
        last_used().write()
    assert written.is_set()
    last_used().write()
    keys = client.get("/v1/keys", headers=key("admin")).json()["data"]
    assert next(row["last_used_at"] for row in keys if row["scopes"] == ["read"]) is not None
