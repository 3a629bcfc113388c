"""What a run writes reaches the database and, on another machine, a run directory again: real files, real databases."""

import io
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from app.datasets.schemas import NewVersion
from app.datasets.service import create_version
from app.db import reading, writing
from app.models import Dataset, File, Job, JobCheckpoint, JobEvaluation, JobMetric, Version, Work, new_id
from app.queue import add_work
from app.settings import get_settings
from app.store import get_store
from app.training import repository
from app.training.showing import show_job
from worker import run_folder
from worker.leases import Lease, claim
from worker.mirror import Mirror, StoredCheckpoint
from worker.origins import Origins
from worker.retention import forget_unused
from worker.run_config import lay_out_version
from worker.tasks import do

CONFIG: dict[str, Any] = {
    "model": {"scratch": {"preset": "tiny"}},
    "data": {"version": "/here/manifest.json", "validation": None, "cache_dir": "/here", "mix": []},
    "batch": {"tokens": 4096, "conversations": 12},
    "optim": {"peak_lr": 2e-3},
    "run": {"epochs": 2.0, "max_steps": 100},
    "checkpoint": {"keep": 1},
}


def _version(num_conversations: int = 5) -> str:
    """A finished version of one uploaded file, as workers make it."""
    said = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]
    lines = [orjson.dumps({"id": f"c{i}", "messages": said}) for i in range(num_conversations)]
    blob = get_store().put(io.BytesIO(b"\n".join(lines) + b"\n"))
    with writing() as session:
        file = File(
            id=new_id("file"), purpose="conversations", filename="a.jsonl", bytes=blob.bytes, sha256=blob.sha256
        )
        dataset = Dataset(id=new_id("ds"), name="test")
        session.add_all([file, dataset])
        session.flush()
        add_work(session, "ingest", file.id)
        version = create_version(session, dataset.id, NewVersion(files=[file.id], recipe={"operators": []}))
    while waiting := _pending():
        for work_id in waiting:
            do(work_id)
    return version.id


def _pending() -> list[str]:
    with reading() as session:
        return list(session.scalars(select(Work.id).where(Work.state == "pending", Work.kind != "train")))


def _job(version_id: str) -> str:
    with writing() as session:
        job = Job(
            id=new_id("ftjob"), version_id=version_id, model="scratch:tiny", status="running",
            request={"training_file": version_id, "hyperparameters": None},
            config={"model": {"scratch": {"preset": "tiny"}}, "run": {"seed": 0}},
        )  # fmt: skip
        session.add(job)
        session.flush()
        add_work(session, "train", job.id, queue="train")
        return job.id


def _lease(job_id: str) -> Lease:
    with writing() as session:
        work = session.scalars(select(Work).where(Work.subject == job_id)).one()
        work.lease_until = 0.0  # whoever had it before
    lease = claim(work.id, "me")
    assert lease is not None
    return lease


def _write(run_dir: Path, name: str, *lines: dict[str, Any]) -> None:
    (run_dir / name).parent.mkdir(exist_ok=True)
    with (run_dir / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _cut_back(run_dir: Path, name: str, last: int) -> None:
    """As the trainer does: another file takes the place of the old one."""
    path = run_dir / f"{name}.jsonl"
    kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= last]
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in kept))
    new.replace(path)


def _metric(step: int) -> dict[str, Any]:
    return {
        "step": step, "steps": 100, "loss": 1 / step, "lr": 1e-3, "grad_norm": 1.0, "tokens": 1000,
        "total_tokens": 1000 * step, "tokens_per_second": 500.0,
    }  # fmt: skip


def _checkpoint(run_dir: Path, step: int) -> StoredCheckpoint:
    folder = run_dir / "checkpoints" / f"step-{step}"
    folder.mkdir(parents=True)
    (folder / "quality.json").write_text(json.dumps({"step": step, "loss": 0.5}))
    blob = get_store().put_file(folder / "quality.json")
    name = f"checkpoints/step-{step}/quality.json"
    return StoredCheckpoint(step, {"step": step}, [{"name": name, "sha256": blob.sha256, "bytes": blob.bytes}])


def _steps(table: type[JobMetric] | type[JobEvaluation]) -> list[int]:
    with reading() as session:
        return list(session.scalars(select(table.step).order_by(table.step)))


def _offered(job_id: str) -> list[str]:
    with reading() as session:
        return [file.name for file in repository.files(session, job_id)]


def _stored() -> dict[int, bool]:
    with reading() as session:
        return {row.step: bool(row.files) for row in session.scalars(select(JobCheckpoint))}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "architecture.json").write_text("[]")
    return folder


def test_a_run_that_went_back_is_told_with_file_and_line_and_laid_out_again_elsewhere(
    run_dir: Path, tmp_path: Path
) -> None:
    version_id = _version()
    job_id = _job(version_id)
    with reading() as session:
        file_id = session.scalars(select(File.id)).one()
        manifest = lay_out_version(session.get_one(Version, version_id))
    mirror = Mirror(_lease(job_id), run_dir, Origins({version_id: manifest}))
    _write(run_dir, "metrics", *(_metric(step) for step in range(1, 31)))
    _write(run_dir, "evaluations", {"step": 10, "validation_loss": 3.0}, {"step": 30, "validation_loss": 2.0})
    for step in (10, 30, 40):  # the evaluation after step 40 is not done yet
        _write(run_dir, f"evaluation/losses-step-{step}", {"conversation_id": "c1", "loss_sum": 3.0})
    mirror.copy([_checkpoint(run_dir, step) for step in (0, 10, 20, 30)])
    assert _stored() == {0: True, 10: True, 20: True, 30: True}, "nothing is pruned before the run has pruned it"
    assert _offered(job_id) == ["evaluation/losses-step-10.jsonl", "evaluation/losses-step-30.jsonl"]
    (run_dir / "checkpoints/step-10/quality.json").unlink()
    (run_dir / "checkpoints/step-10").rmdir()
    _write(run_dir, "metrics", _metric(31))
    mirror.copy([_checkpoint(run_dir, 31)])
    assert _stored() == {0: True, 10: False, 20: True, 30: True, 31: True}

    # step 35 fails: the run goes back to step 20, without what was at fault
    for step in (30, 31):
        (run_dir / f"checkpoints/step-{step}/quality.json").unlink()
        (run_dir / f"checkpoints/step-{step}").rmdir()
    _cut_back(run_dir, "metrics", 20)
    _cut_back(run_dir, "evaluations", 20)
    records = [{"conversation_id": "c3"}, {"conversation_id": "gone"}]
    fault = {"at": 1.0, "reason": "loss nan", "step": 35, "segment": "s", "records": records, "detour": {"rows": []}}
    _write(run_dir, "recovery", fault)
    mirror.copy()
    assert _stored() == {0: True, 10: False, 20: True}
    assert (_steps(JobMetric), _steps(JobEvaluation)) == (list(range(1, 21)), [10])
    assert _offered(job_id) == ["evaluation/losses-step-10.jsonl"]
    with reading() as session:
        told = show_job(session.get_one(Job, job_id)).recovery
    assert told == [
        {
            **{name: value for name, value in fault.items() if name != "detour"},
            "records": [{"conversation_id": "c3", "file": file_id, "line": 4}, {"conversation_id": "gone"}],
        }
    ]

    elsewhere = tmp_path / "elsewhere"
    lease = _lease(job_id)
    run_folder.prepare(lease, elsewhere, threading.Event())
    lines = {path.name: path.read_text().splitlines() for path in elsewhere.glob("*.jsonl")}
    assert [json.loads(line)["step"] for line in lines["metrics.jsonl"]] == list(range(1, 21))
    assert [json.loads(line)["step"] for line in lines["evaluations.jsonl"]] == [10]
    (recovered,) = lines["recovery.jsonl"]
    assert json.loads(recovered)["detour"] == {"rows": []}, "without which the run would take its rows again"
    assert sorted(path.name for path in (elsewhere / "checkpoints").iterdir()) == ["step-0", "step-20"]
    heir = Mirror(lease, elsewhere, Origins({version_id: manifest}))
    _write(elsewhere, "recovery", {**fault, "step": 41, "records": []})
    heir.copy()
    with reading() as session:
        assert [entry["step"] for entry in session.get_one(Job, job_id).recovery] == [35, 41]


def test_progress_is_a_minutes_speed_and_hyperparameters_become_numbers(run_dir: Path) -> None:
    job_id = _job(_version())
    with reading() as session:
        before = show_job(session.get_one(Job, job_id))
    assert set(before.hyperparameters.values()) == {"auto"}
    assert (before.progress.step, before.progress.tokens_per_second, before.estimated_finish) == (0, None, None)
    mirror = Mirror(_lease(job_id), run_dir, Origins({}))
    slow = {**_metric(1), "tokens_per_second": 10.0}  # the first step, which compiles and warms up: 100 s
    _write(run_dir, "metrics", slow, *(_metric(step) for step in range(2, 42)))  # 2 s each
    mirror.copy()
    with reading() as session:
        job = session.get_one(Job, job_id)
    told = show_job(job)
    assert told.hyperparameters == {"n_epochs": 2, "batch_size": 12, "learning_rate_multiplier": pytest.approx(2.0)}
    assert (told.progress.step, told.progress.steps, told.progress.tokens) == (41, 100, 41_000)
    assert told.progress.tokens_per_second == 500.0
    assert told.estimated_finish is not None
    assert 59 * 2 - 2 <= told.estimated_finish - job.created_at <= 59 * 2 + 30
    assert "version" not in told.trainer["data"]


def test_a_worker_removes_runs_that_ended_long_ago_and_no_others() -> None:
    version_id, runs = _version(), get_settings().runs_dir
    jobs = {name: _job(version_id) for name in ("old", "new", "paused", "running")}
    ended = {
        "old": ("failed", 8.0),
        "new": ("succeeded", 6.0),
        "paused": ("paused", None),
        "running": ("running", None),
    }
    with writing() as session:
        for name, (status, days_ago) in ended.items():
            job = session.get_one(Job, jobs[name])
            job.status, job.finished_at = status, None if days_ago is None else time.time() - days_ago * 86_400
    for job_id in [*jobs.values(), "ftjob-of-another-database"]:
        (runs / job_id / "checkpoints").mkdir(parents=True)
        for suffix in (".log", ".request.json"):
            (runs / f"{job_id}{suffix}").touch()
    before = {path.name for path in runs.iterdir()}
    data = get_settings().data_dir.absolute()
    folders = [
        data / kind / name for kind in ("versions", "models", "vectors") for name in ("used", "unused", "running")
    ]
    for folder in folders:
        (folder / "deep").mkdir(parents=True)
        if folder.name != "used":
            os.utime(folder, (0, time.time() - 8 * 86_400))
    (runs / f"{jobs['running']}.request.json").write_text(json.dumps([str(f) for f in folders if f.name == "running"]))
    forget_unused()
    assert before - {path.name for path in runs.iterdir()} == {
        jobs["old"] + suffix for suffix in ("", ".log", ".request.json")
    }
    assert [folder for folder in folders if not folder.exists()] == [f for f in folders if f.name == "unused"]
    left = sorted(path.name for path in (data / "models").iterdir())
    assert left == ["running", "used"]
