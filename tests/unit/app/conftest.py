"""The real application on a real SQLite database and store in a new folder, without a server or a broker."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app import migrations
from app.auth import SCOPES, create_key
from app.db import get_engine, reading, writing
from app.main import create_app
from app.models import Work
from app.settings import get_settings

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(autouse=True)
def _service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")  # nobody listens: nudges wait in the outbox
    monkeypatch.setenv("TALKMILL_MODEL_FOLDERS", f'["{tmp_path / "models"}"]')
    get_settings.cache_clear()
    migrations.upgrade()
    yield
    get_engine().dispose()
    get_settings.cache_clear()


@pytest.fixture
def client_with() -> Callable[..., TestClient]:
    """A client whose key has the given scopes."""

    def make(*scopes: str) -> TestClient:
        with writing() as session:
            _, token = create_key(session, "test", scopes)
        headers = {"Authorization": f"Bearer {token}"}
        return TestClient(create_app(), headers=headers, raise_server_exceptions=False)

    return make


@pytest.fixture
def client(client_with: Callable[..., TestClient]) -> TestClient:
    """A client that may do everything."""
    return client_with(*SCOPES)


@pytest.fixture
def work_off() -> Callable[[], None]:
    """Does all open curation work in this process, as a worker would."""
    from worker.tasks import do

    def run() -> None:
        while ids := _open_work():
            for work_id in ids:
                do(work_id)

    return run


@pytest.fixture
def upload(client: TestClient, work_off: Callable[[], None]) -> Callable[..., dict[str, Any]]:
    """Uploads content and has it ingested."""

    def run(content: bytes, name: str = "a.jsonl") -> dict[str, Any]:
        response = client.post("/v1/files", files={"file": (name, content)}, data={"purpose": "conversations"})
        assert response.status_code == 200, response.text
        work_off()
        file: dict[str, Any] = client.get(f"/v1/files/{response.json()['id']}").json()
        return file

    return run


@pytest.fixture
def version(client: TestClient, upload: Callable[..., dict[str, Any]], work_off: Callable[[], None]) -> dict[str, Any]:
    """A finished version of 40 example conversations and one without a reply."""
    lines = (EXAMPLES / "dialogues.jsonl").read_bytes().splitlines()[:40]
    lines.append('{"id":"silent/1","messages":[{"role":"user","content":"有人吗"}]}'.encode())
    file = upload(b"\n".join(lines))
    dataset = client.post("/v1/datasets", json={"name": "d"}).json()
    made = client.post(f"/v1/datasets/{dataset['id']}/versions", json={"files": [file["id"]]})
    assert made.status_code == 202, made.text
    work_off()
    found: dict[str, Any] = client.get(f"/v1/versions/{made.json()['id']}").json()
    assert found["status"] == "succeeded", found
    return found


def _open_work() -> list[str]:
    with reading() as session:
        return list(session.scalars(select(Work.id).where(Work.state == "pending", Work.queue == "curate")))
