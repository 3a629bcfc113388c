"""On PostgreSQL, Valkey and S3: the parts one by one as in production, migrations, and what an outage looks like."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from running_stack import ROOT, RunningStack
from servers import Server, all_three, new_database, postgresql, s3, valkey
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app import migrations
from app.auth import SCOPES, create_key
from app.db import engine_for, get_engine, writing
from app.main import create_app
from app.models import AuditEvent, Lexicon, Work
from app.settings import get_settings

CONVERSATION = '{"messages":[{"role":"user","content":"你好"},{"role":"assistant","content":"您好"}]}\n'.encode()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with postgresql(tmp_path_factory.mktemp("database") / "postgresql") as server:
        yield server


@pytest.fixture
def empty_database(database: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An empty PostgreSQL database, which the settings name."""
    url = new_database(database)
    monkeypatch.setenv("TALKMILL_DATABASE_URL", url)
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield url
    get_engine().dispose()
    engine_for.cache_clear()
    get_settings.cache_clear()


def _talkmill(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _tables() -> set[str]:
    names = text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    with get_engine().connect() as connection:
        return set(connection.scalars(names))


def test_migrations_go_up_and_down_and_agree_with_the_models(empty_database: str) -> None:
    migrations.upgrade()
    with get_engine().connect() as connection:
        assert migrations.differences(connection) == []
    migrations.downgrade("0001")
    assert "learned_filters" not in _tables() >= {"files", "work"}
    migrations.downgrade("base")
    assert _tables() == {"alembic_version"}
    migrations.upgrade()
    assert {"files", "work", "learned_filters"} <= _tables()


@pytest.mark.parametrize(
    "change", ["UPDATE audit_events SET action = ''", "DELETE FROM audit_events", "TRUNCATE audit_events"]
)
def test_postgresql_refuses_to_alter_the_audit_log(empty_database: str, change: str) -> None:
    migrations.upgrade()
    with writing() as session:
        session.add(AuditEvent(action="talkmill keys create"))
    with pytest.raises(DBAPIError, match="append-only"), writing() as session:
        session.execute(text(change))


def test_processes_that_migrate_at_once_take_turns(empty_database: str) -> None:
    started = [_talkmill("migrate") for _ in range(4)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in started]
    assert [status for _, status in ended] == [0] * 4, ended
    with get_engine().connect() as connection:
        assert migrations.differences(connection) == []


def test_the_clock_of_leases_runs_within_a_transaction(empty_database: str) -> None:
    """`now()` would stand still, and a lease renewed late in a long transaction would be born old."""
    from sqlalchemy import select

    from app.db import clock_s

    with writing() as session:
        before = session.scalar(select(clock_s()))
        time.sleep(0.05)
        after = session.scalar(select(clock_s()))
    assert before is not None and after is not None
    assert 0.05 <= after - before < 5


def test_of_many_that_claim_at_once_one_wins(empty_database: str) -> None:
    from worker.leases import claim

    migrations.upgrade()
    with writing() as session:
        session.add_all(Work(id=f"work-{i}", kind="plan", subject=f"ver-{i}") for i in range(20))
    with ThreadPoolExecutor(8) as pool:
        for i in range(20):
            leases = list(pool.map(lambda owner, i=i: claim(f"work-{i}", f"owner-{owner}"), range(8)))
            assert len([lease for lease in leases if lease is not None]) == 1


def test_a_database_that_is_away_is_told_in_one_line(tmp_path: Path) -> None:
    env = {**os.environ, "TALKMILL_DATABASE_URL": "postgresql://talkmill:hidden@127.0.0.1:1/talkmill"}
    for arguments in (["up", "--data", str(tmp_path), "--port", "0"], ["migrate"]):
        command = [sys.executable, "-m", "app.cli", *arguments]
        ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 1
        (line,) = ended.stderr.strip().splitlines()
        assert line.startswith("Error: the database cannot be used (")
        assert "TALKMILL_DATABASE_URL" in line
        assert "hidden" not in line


@pytest.fixture
def client(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The API on an empty, migrated PostgreSQL, with a key for everything."""
    monkeypatch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    migrations.upgrade()
    with writing() as session:
        _, token = create_key(session, "test", sorted(SCOPES))
    return TestClient(create_app(), headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False)


def test_text_that_postgresql_cannot_hold_is_refused_everywhere(client: TestClient) -> None:
    """SQLite takes the character NUL, PostgreSQL does not: neither may make it a fault of ours."""
    included = [router for route in create_app().routes if (router := getattr(route, "original_router", None))]
    routes = [route for router in included for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 30
    names = ("after", "q", "operator", "code", "province", "by", "where", "metric", "against", "format", "signature")
    query = "&".join(f"{name}=%00" for name in names)
    for route in routes:
        url = re.sub(r"\{[^}]+\}", "x%00y", route.path)
        for method in route.methods:
            for asked in (url, f"{url}?{query}"):
                answer = client.request(method, asked)
                assert answer.status_code < 500, (method, asked, answer.text)
    for route, body in (("datasets", {"name": "a\0b"}), ("datasets", {"name": "a", "description": "\0"}),
                        ("lexicons", {"name": "a", "words": ["\0"]}), ("keys", {"name": "\0", "scopes": ["read"]})):  # fmt: skip
        answer = client.post(f"/v1/{route}", json=body)
        assert answer.status_code in (200, 201, 422), (route, body, answer.text)
    form = {"purpose": "conversations", "speakers": '{"a\\u0000": "user"}'}
    answer = client.post("/v1/files", files={"file": ("a%00b.jsonl", CONVERSATION)}, data=form)
    assert answer.status_code in (200, 201, 422), answer.text


def test_of_two_that_take_the_same_number_at_once_one_is_told_to_try_again(client: TestClient) -> None:
    with ThreadPoolExecutor(1) as pool:
        with writing() as session:
            session.add(Lexicon(id="lex-first", name="race", number=1, words=["a"]))
            session.flush()
            second = pool.submit(client.post, "/v1/lexicons", json={"name": "race", "words": ["b"]})
            with get_engine().connect() as watching:
                waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                RunningStack.wait_until(lambda: watching.scalar(waits) or second.done(), 20)
        answer = second.result(20)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "changed_meanwhile"
    assert "x-should-retry" not in answer.headers
    again = client.post("/v1/lexicons", json={"name": "race", "words": ["b"]})
    assert (again.status_code, again.json()["number"]) == (201, 2), again.text


def test_an_outage_of_the_database_is_a_503_that_clients_try_again(tmp_path: Path, monkeypatch: Any) -> None:
    with postgresql(tmp_path / "postgresql") as server:
        monkeypatch.setenv("TALKMILL_DATABASE_URL", server.env["TALKMILL_DATABASE_URL"])
        monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
        get_settings.cache_clear()
        client = TestClient(create_app(), headers={"Authorization": "Bearer tm_x"}, raise_server_exceptions=False)
        server.stop()
        answer = client.get("/v1/files")
    engine_for.cache_clear()
    get_settings.cache_clear()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"]["code"] == "database_unavailable"


def _readiness(stack: RunningStack) -> tuple[int, dict[str, str]]:
    answer = httpx.get(f"{stack.state['url']}/readyz", timeout=20)
    return answer.status_code, answer.json()


def test_readyz_says_which_part_is_away(tmp_path: Path) -> None:
    with ExitStack() as running:
        kinds = {"database": postgresql, "broker": valkey, "store": s3}
        servers = {name: running.enter_context(start(tmp_path / name)) for name, start in kinds.items()}
        env = {key: value for server in servers.values() for key, value in server.env.items()}
        stack = RunningStack(tmp_path / "stack", env=env)
        assert "broker" not in stack.state["processes"], "a given broker is used, none is started"
        assert _readiness(stack) == (200, {"status": "ready", "database": "ok", "broker": "ok", "store": "ok"})
        away: set[str] = set()
        for name in ("store", "broker", "database"):
            servers[name].stop()
            away.add(name)
            status, found = _readiness(stack)
            assert status == 503
            assert {part for part in kinds if found[part] != "ok"} == away
        assert stack.stop() == []


@contextmanager
def _parts(env: dict[str, str], folder: Path, commands: Sequence[Sequence[str]]) -> Iterator[list[Any]]:
    """`talkmill` commands as a container runs them: each alone, ended by SIGTERM, which has to be enough."""
    started = []
    for number, command in enumerate(commands):
        with (folder / f"{number}.log").open("ab") as log:
            own = {**os.environ, **env, "TALKMILL_DATA_DIR": str(folder / str(number))}
            program = [sys.executable, "-m", "app.cli", *command]
            started.append(subprocess.Popen(program, cwd=ROOT, env=own, stdout=log, stderr=log))
    try:
        yield started
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        try:
            for process in started:
                process.wait(20)
        finally:
            for process in started:
                process.kill()


def test_the_parts_run_one_by_one_on_machines_that_share_no_folder(tmp_path: Path) -> None:
    from socket import socket

    with all_three(tmp_path / "servers") as env, socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        own = {**os.environ, **env, "TALKMILL_DATA_DIR": str(tmp_path / "admin")}
        for command in (["migrate"], ["keys", "create", "--name", "test", "--scopes", "read,curate"]):
            run = [sys.executable, "-m", "app.cli", *command]
            key = subprocess.run(run, cwd=ROOT, env=own, capture_output=True, text=True, check=True).stdout.strip()
        commands = [["serve", "--port", port], *[["worker", "--queues", "curate"]] * 2]
        with _parts(env, tmp_path, commands) as parts:
            url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=f"{url}/v1", headers=headers, timeout=20) as client:
                RunningStack.wait_until(lambda: _answers(url), 30)
                file = client.post(
                    "/files", files={"file": ("a.jsonl", CONVERSATION)}, data={"purpose": "conversations"}
                )
                dataset = client.post("/datasets", json={"name": "test"}).json()
                body = {"files": [file.json()["id"]]}
                version = client.post(f"/datasets/{dataset['id']}/versions", json=body).json()
                path = f"/versions/{version['id']}"
                RunningStack.wait_until(lambda: client.get(path).json()["status"] == "succeeded", 120)
                exported = client.get(f"{path}/export", params={"format": "openai"}).text
                assert len(exported.splitlines()) == 1
            assert [process.poll() for process in parts] == [None] * 3
        assert [process.returncode for process in parts] == [-signal.SIGTERM, 0, 0]
        assert "Application shutdown complete" in (tmp_path / "0.log").read_text()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
