"""Keys: random, kept as hashes, and no longer good than they should be."""

import base64
import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.db import reading, writing
from app.models import ApiKey

Key = Callable[..., dict[str, str]]


def test_a_key_has_256_random_bits_and_only_its_hash_is_kept(client: TestClient, key: Key) -> None:
    admin = key("admin")
    made = [
        client.post("/v1/keys", json={"name": "k", "scopes": ["read"]}, headers=admin).json()["key"] for _ in range(3)
    ]
    assert len(set(made)) == 3
    assert all(len(base64.urlsafe_b64decode(token.removeprefix("tm_") + "=")) == 32 for token in made)
    with reading() as session:
        stored = str([vars(row) for row in session.scalars(select(ApiKey))])
    assert not [token for token in made if token in stored or token.removeprefix("tm_") in stored]


def test_an_expired_key_opens_nothing(client: TestClient, key: Key) -> None:
    body = {"name": "guest", "scopes": ["read"], "expires_in_s": 3600}
    made = client.post("/v1/keys", json=body, headers=key("admin")).json()
    guest = {"Authorization": f"Bearer {made['key']}"}
    assert made["expires_at"] == pytest.approx(time.time() + 3600, abs=60)
    assert client.get("/v1/files", headers=guest).status_code == 200
    with writing() as session:
        session.execute(update(ApiKey).where(ApiKey.id == made["id"]).values(expires_at=time.time() - 1))
    refused = client.get("/v1/files", headers=guest)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dG06dG0=", "tm_x", "Bearer tm_\u00e9", "Bearer " + "x" * 10_000, "Bearer tm_ tm_"],
)
def test_what_is_no_key_is_refused(client: TestClient, header: str) -> None:
    answer = client.get("/v1/files", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_no_scope_implies_another(client: TestClient, key: Key) -> None:
    admin = key("admin")
    assert client.get("/v1/keys", headers=admin).status_code == 200
    assert client.get("/v1/files", headers=admin).status_code == 403
    assert client.post("/v1/datasets", json={"name": "a"}, headers=admin).status_code == 403
    assert client.get("/v1/keys", headers=key("read", "curate", "train")).status_code == 403


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\passwd", "/etc/passwd", "a/../../passwd"])
def test_a_path_in_the_name_of_a_file_leads_nowhere(client: TestClient, everything: dict[str, str], name: str) -> None:
    sent = {"files": {"file": (name, b"{}")}, "data": {"purpose": "conversations"}}
    file = client.post("/v1/files", headers=everything, **sent).json()  # type: ignore[arg-type]
    assert file["filename"] == "passwd"
    content = client.get(f"/v1/files/{file['id']}/content", headers=everything)
    assert content.headers["content-disposition"].startswith("attachment")
    assert ".." not in content.headers["content-disposition"]
    assert content.headers["x-content-type-options"] == "nosniff"
