"""A worker that is told to stop: what it cannot finish in time it gives back, and no attempt is lost."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from fastapi.testclient import TestClient
from running_stack import RunningStack
from servers import Server, postgresql, valkey
from service_in_process import service_in_process
from sqlalchemy import select

from app import process
from app.db import reading
from app.models import Work
from app.queue import num_waiting

FOREVER = {"epoch": 100, "bucket": 200_000, "dim": 300, "word_ngrams": 5}
"""A training of a classifier that takes far longer than a worker may take to stop."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("shutdown")
    with postgresql(folder / "postgresql") as database, valkey(folder / "valkey") as broker:
        yield [database, broker]


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, servers: list[Server], tmp_path: Path) -> Iterator[TestClient]:
    env = {"TALKMILL_DATA_DIR": str(tmp_path), **servers[1].env, "TALKMILL_NUDGE_AGAIN_S": "600"}
    with service_in_process(env | servers[0].env if request.param == "postgresql" else env) as client:
        yield client


def _work(kind: str) -> Work:
    with reading() as session:
        return session.scalars(select(Work).where(Work.kind == kind)).one()


def _classifier(api: TestClient) -> dict[str, Any]:
    words = random.Random(7)
    han = [chr(code) for code in range(0x4E00, 0x5E00)]
    texts = [{"text": "".join(words.choices(han, k=60)), "label": f"{i % 2}"} for i in range(20_000)]
    content = b"\n".join(orjson.dumps(text) for text in texts)
    file = api.post("/v1/files", files={"file": ("labels.jsonl", content)}, data={"purpose": "labels"}).json()
    body = {"name": "long", "file": file["id"], "hyperparameters": FOREVER}
    answer = api.post("/v1/classifiers", json=body)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _trains(worker_pid: int) -> bool:
    try:
        commands = [" ".join(child.cmdline()) for child in psutil.Process(worker_pid).children(recursive=True)]
    except psutil.NoSuchProcess:  # a child that ended while it was looked at
        return False
    return any("worker.learning" in command for command in commands)


def test_long_work_is_given_back_in_time_and_costs_no_attempt(api: TestClient, tmp_path: Path) -> None:
    made = _classifier(api)
    worker = process.start([sys.executable, "-m", "worker", "--queues", "curate"], log=tmp_path / "worker.log")
    try:
        RunningStack.wait_until(lambda: _trains(worker.pid), 180)
        assert (_work("learn").state, _work("learn").attempt) == ("leased", 1)
        children = psutil.Process(worker.pid).children(recursive=True)
        told_at = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait(30) == 0
        assert time.monotonic() - told_at < 15
    finally:
        process.kill_group(worker)
        worker.wait()
    assert psutil.wait_procs(children, timeout=5)[1] == []
    left = _work("learn")
    assert (left.state, left.attempt, left.owner, left.error) == ("pending", 0, None, None)
    assert num_waiting("curate") >= 1, "and another worker is told"
    assert api.get(f"/v1/classifiers/{made['id']}").json()["status"] == "running"
