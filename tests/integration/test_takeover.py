"""Training goes on elsewhere: workers on machines that share no folder stop, die and come back; the model is the same."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient
from running_stack import RunningStack
from servers import all_three
from service_in_process import service_in_process
from sqlalchemy import select

from app import process
from app.db import reading
from app.models import JobCheckpoint, JobFile, JobMetric, Work

STEPS, EVERY, KEEP = 90, 10, 2
TRAINER: dict[str, Any] = {
    "model": {"scratch": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 800}},
    "data": {"max_source_length": 160, "max_target_length": 64},
    "batch": {"tokens": 1792},
    "run": {"max_steps": STEPS, "nproc": 2},
    "checkpoint": {"every_steps": EVERY, "keep": KEEP},
    "evaluate": {"bleu_samples": 0},
    "recovery": {"grad_norm_limit": 1e6},  # where the examples turn from Chinese to English, the norm leaps
}
TIMES = ("tokens_per_second", "peak_memory_bytes")


class Machine:
    """A folder of its own and at most one worker; the database, the broker and the store are everybody's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = {**os.environ, "TALKMILL_DATA_DIR": str(self._folder)}
        self.worker = process.start([sys.executable, "-m", "worker"], env=env, log=self._folder.with_suffix(".log"))

    def ranks(self) -> list[psutil.Process]:
        assert self.worker is not None
        family = psutil.Process(self.worker.pid).children(recursive=True)
        return [one for one in family if "trainer.rank" in " ".join(one.cmdline())]

    def family(self) -> list[psutil.Process]:
        assert self.worker is not None
        return psutil.Process(self.worker.pid).children(recursive=True)

    def end(self, sig: signal.Signals) -> float:
        """Signals the worker and waits for its end; returns how many seconds that took."""
        assert self.worker is not None
        began = time.monotonic()
        self.worker.send_signal(sig)
        self.worker.wait(30)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The API in this process, on PostgreSQL, Valkey and S3, which the workers that tests start find too."""
    folder = tmp_path_factory.mktemp("takeover")
    short = {"TALKMILL_LEASE_S": "3", "TALKMILL_SWEEP_EVERY_S": "0.5", "TALKMILL_NUDGE_AGAIN_S": "2"}
    own = {**short, "TALKMILL_DATA_DIR": str(folder / "api")}
    with all_three(folder / "servers") as env, service_in_process(env | own) as client:
        yield client


@pytest.fixture(scope="module")
def machine(api: TestClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Machine]]:
    """Machines by name; their workers end with the tests."""
    folder = tmp_path_factory.mktemp("machines")
    made: dict[str, Machine] = {}

    def named(name: str) -> Machine:
        return made.setdefault(name, Machine(folder / name))

    yield named
    for one in made.values():
        if one.worker is not None and one.worker.poll() is None:
            one.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def version(api: TestClient, machine: Callable[[str], Machine], examples: Path) -> str:
    machine("first").start()
    content = (examples / "dialogues.jsonl").read_bytes()
    file = api.post("/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "conversations"}).json()
    dataset = api.post("/v1/datasets", json={"name": "test"}).json()
    made = api.post(f"/v1/datasets/{dataset['id']}/versions", json={"files": [file["id"]]}).json()
    RunningStack.wait_until(lambda: api.get(f"/v1/versions/{made['id']}").json()["status"] == "succeeded", 120)
    return str(made["id"])


@pytest.fixture(scope="module")
def undisturbed(api: TestClient, version: str) -> str:
    job = _create(api, version)
    RunningStack.wait_until(lambda: _status(api, job) == "succeeded", 400)
    return job


def _create(api: TestClient, version: str) -> str:
    body = {"model": "scratch:tiny", "training_file": version, "trainer": TRAINER, "seed": 7}
    answer = api.post("/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def _status(api: TestClient, job: str) -> str:
    found = api.get(f"/v1/fine_tuning/jobs/{job}").json()
    assert found["status"] not in ("failed", "cancelled"), found["error"]
    return str(found["status"])


def _step(api: TestClient, job: str) -> int:
    return int(api.get(f"/v1/fine_tuning/jobs/{job}").json()["progress"].get("step") or 0)


def _stored(job: str) -> dict[int, list[str]]:
    """Names of the files of the checkpoints that the store has, by step."""
    with reading() as session:
        rows = session.scalars(select(JobCheckpoint).where(JobCheckpoint.job_id == job))
        return {row.step: [file["name"] for file in row.files] for row in rows if row.files}


def _work(job: str) -> Work:
    with reading() as session:
        return session.scalars(select(Work).where(Work.subject == job)).one()


def _metrics(job: str) -> list[dict[str, Any]]:
    with reading() as session:
        lines = session.scalars(select(JobMetric.data).where(JobMetric.job_id == job).order_by(JobMetric.step))
        return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def _model(job: str) -> dict[str, str]:
    with reading() as session:
        return {row.name: row.sha256 for row in session.scalars(select(JobFile).where(JobFile.job_id == job))}


def test_the_store_keeps_the_checkpoints_that_the_run_keeps(undisturbed: str) -> None:
    stored = _stored(undisturbed)
    assert sorted(stored) == [0, STEPS - EVERY, STEPS]
    for step, names in stored.items():
        assert {f"checkpoints/step-{step}/quality.json", "tokenizer/tokenizer.json"} < set(names)


def test_a_job_that_wanders_between_machines_makes_the_same_model(
    api: TestClient, machine: Callable[[str], Machine], version: str, undisturbed: str
) -> None:
    first, second = machine("first"), machine("second")
    job = _create(api, version)
    RunningStack.wait_until(lambda: _step(api, job) >= 15, 120)

    family = first.family()
    assert first.end(signal.SIGTERM) < 15
    assert psutil.wait_procs(family, timeout=5)[1] == []
    given_back, reached = _work(job), _step(api, job)
    assert (given_back.state, given_back.attempt, given_back.error) == ("pending", 0, None)
    assert reached in _stored(job), "it stopped with a checkpoint, and uploaded it"

    second.start()
    RunningStack.wait_until(lambda: max(_stored(job)) > reached + EVERY, 120)
    ranks = second.ranks()
    assert len(ranks) == 2
    ranks[1].suspend()
    family = second.family()
    second.end(signal.SIGKILL)
    assert psutil.wait_procs(family, timeout=10)[1] == [], "not even a rank that is stopped outlives its worker"

    left_at = max(_stored(job))
    first.start()  # whose own run directory is out of date by now
    RunningStack.wait_until(lambda: _status(api, job) == "succeeded", 400)

    assert _metrics(job) == _metrics(undisturbed)
    assert _model(job) == _model(undisturbed)
    assert _work(job).attempt == 0, "being taken over is no fault of the run"
    events = api.get(f"/v1/fine_tuning/jobs/{job}/events?limit=100").json()["data"]
    resumed = [event["message"] for event in events if event["message"].startswith("resumed at step")]
    assert resumed == [f"resumed at step {left_at}", f"resumed at step {reached}"]
    assert len({event["id"] for event in events}) == len(events)
