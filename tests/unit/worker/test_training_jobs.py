"""What becomes of a job before and after it trains, on real databases: it waits for its versions, and fails with them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from app.db import reading, writing
from app.models import Dataset, File, Job, JobCheckpoint, JobEvent, Version, Work, new_id
from app.settings import get_settings
from app.training.schemas import NewJob
from app.training.service import create_job
from app.training.waiting import version_ended
from worker.leases import claim
from worker.supervisor import fail_job, goes_on_after_kill


def _file() -> str:
    with writing() as session:
        file = File(
            id=new_id("file"), purpose="fine-tune", filename="a.jsonl", bytes=1, sha256="0" * 64, status="processed"
        )
        session.add(file)
        return file.id


def _finished_version() -> str:
    with writing() as session:
        dataset = Dataset(id=new_id("ds"), name="test")
        session.add(dataset)
        session.flush()
        version = Version(
            id=new_id("ver"), dataset_id=dataset.id, number=1, status="succeeded", recipe={"operators": []},
            recipe_fingerprint="f", as_of="2026-11-25",
        )  # fmt: skip
        session.add(version)
        return version.id


def _create(training_file: str, validation_file: str | None) -> str:
    body = NewJob(model="scratch:tiny", training_file=training_file, validation_file=validation_file)
    with writing() as session:
        return create_job(session, body).id


def _job(job_id: str) -> Job:
    with reading() as session:
        return session.get_one(Job, job_id)


def _end(version_id: str, status: str = "succeeded", error: str | None = None) -> None:
    """As a worker does that closes the version."""
    with writing() as session:
        version = session.get_one(Version, version_id, with_for_update=True)
        version.status, version.error = status, error
        version_ended(session, version)


def _training_work(job_id: str) -> list[Work]:
    with reading() as session:
        return list(session.scalars(select(Work).where(Work.kind == "train", Work.subject == job_id)))


def test_a_job_waits_for_both_its_versions_and_is_queued_once() -> None:
    for _ in range(10):
        job_id = _create(_file(), _file())
        job = _job(job_id)
        assert (job.status, _training_work(job_id)) == ("validating_files", [])
        assert job.validation_version_id is not None
        together = threading.Barrier(2)

        def end(version_id: str, together: threading.Barrier = together) -> None:
            together.wait(30)
            _end(version_id)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(end, (job.version_id, job.validation_version_id)))
        assert (_job(job_id).status, len(_training_work(job_id))) == ("queued", 1)


def test_versions_that_are_there_are_not_waited_for() -> None:
    job_id = _create(_finished_version(), _finished_version())
    assert (_job(job_id).status, len(_training_work(job_id))) == ("queued", 1)


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_job_fails_with_the_version_that_could_not_be_made(param: str) -> None:
    job_id = _create(_file(), _file())
    job = _job(job_id)
    versions = {"training_file": job.version_id, "validation_file": str(job.validation_version_id)}
    _end(versions[param], "failed", "all records are quarantined")
    failed = _job(job_id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == (f"invalid_{param}", param)
    assert "all records are quarantined" in failed.error["message"]
    (other,) = set(versions.values()) - {versions[param]}
    _end(other)
    assert (_job(job_id).status, _training_work(job_id)) == ("failed", [])


@pytest.mark.parametrize(
    ("reason", "code", "param"),
    [
        ("data.where: matches no conversation", "invalid_setting", "trainer.data.where"),
        ("data.version: no reply to learn", "invalid_setting", "training_file"),
        ("model.base: has no tokenizer.json", "invalid_setting", "model"),
        ("step 3: loss nan", "training_failed", None),
    ],
)
def test_a_run_that_refuses_a_setting_names_the_member_of_the_request(
    reason: str, code: str, param: str | None
) -> None:
    job_id = _create(_finished_version(), None)
    (work,) = _training_work(job_id)
    lease = claim(work.id, "me")
    assert lease is not None
    with writing() as session:
        fail_job(session, lease, reason)
    assert _job(job_id).error == {"code": code, "message": reason, "param": param}


def test_a_trainer_may_be_killed_as_often_as_it_gets_further_and_then_a_few_times() -> None:
    with writing() as session:
        body = NewJob(model="scratch:tiny", training_file=_finished_version())
        job_id = create_job(session, body).id
    (work,) = _training_work(job_id)

    def is_given_back_after_kill(stored_before: int) -> bool:
        lease = claim(work.id, "worker")
        assert lease is not None
        return goes_on_after_kill(lease, {step: {} for step in range(stored_before + 1)})

    for step in (5, 10, 15, 20):
        with writing() as session:
            session.add(JobCheckpoint(id=new_id("ftckpt"), job_id=job_id, step=step, metrics={}, files=[{"name": "a"}]))
        assert is_given_back_after_kill(step - 1)
    assert [is_given_back_after_kill(20) for _ in range(get_settings().max_attempts)] == [True, True, False]
    with reading() as session:
        told = session.scalars(select(JobEvent.message).where(JobEvent.job_id == job_id)).all()
    assert sum("goes on from its last checkpoint" in message for message in told) == 6
