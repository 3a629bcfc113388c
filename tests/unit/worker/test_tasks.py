"""From a nudge to done work: versions closed once, dead letters, outages, on real databases and real blobs."""

import errno
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from app.auth import create_key
from app.datasets.schemas import NewVersion
from app.datasets.service import create_version
from app.db import reading, writing
from app.main import create_app
from app.models import Dataset, File, Version, Work, new_id
from app.queue import add_work
from app.settings import get_settings
from app.store import StoreUnavailableError, get_store
from worker import curating, tasks
from worker.curating import CannotBeDoneError
from worker.leases import claim
from worker.tasks import do


def _dataset() -> str:
    with writing() as session:
        dataset = Dataset(id=new_id("ds"), name="test")
        session.add(dataset)
    return dataset.id


def _file(monkeypatch: pytest.MonkeyPatch, num_segments: int) -> str:
    """An ingested file of conversations that fill a segment each."""
    monkeypatch.setenv("TALKMILL_SEGMENT_BYTES", "1024")
    get_settings.cache_clear()
    said = [{"role": "user", "content": "你好" * 100}, {"role": "assistant", "content": "您好" * 100}]
    lines = [orjson.dumps({"id": f"{new_id('c')}", "messages": said}) for _ in range(num_segments)]
    blob = get_store().put(io.BytesIO(b"\n".join(lines) + b"\n"))
    with writing() as session:
        file = File(
            id=new_id("file"), purpose="conversations", filename="a.jsonl", bytes=blob.bytes, sha256=blob.sha256
        )
        session.add(file)
        work = add_work(session, "ingest", file.id)
    do(work.id)
    return file.id


def _planned(dataset: str, file: str) -> str:
    """A version whose shards are there to be claimed."""
    with writing() as session:
        version = create_version(session, dataset, NewVersion(files=[file]))
    (plan,) = _work(version.id, "plan")
    do(plan.id)
    return version.id


def _work(subject: str, *kinds: str) -> list[Work]:
    with reading() as session:
        found = select(Work).where(Work.subject == subject, Work.kind.in_(kinds)).order_by(Work.ordinal)
        return list(session.scalars(found))


def _version(version_id: str) -> Version:
    with reading() as session:
        return session.get_one(Version, version_id)


def _die(work_id: str) -> None:
    """A worker claims the work and is never heard of again."""
    assert claim(work_id, "gone") is not None
    with writing() as session:
        session.execute(update(Work).where(Work.id == work_id).values(lease_until=0.0))


def test_two_last_shards_that_commit_together_lead_the_version_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, file = _dataset(), _file(monkeypatch, num_segments=2)
    commits = threading.Barrier(2)

    def together(point: str) -> None:
        if point == "curate_results_stored":
            commits.wait(30)

    monkeypatch.setattr(curating, "crash_point", together)
    digests = set()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            version = _planned(dataset, file)
            shards = _work(version, "curate")
            assert len(shards) == 2
            list(pool.map(do, [shard.id for shard in shards]))
            assert {shard.state for shard in _work(version, "curate")} == {"done"}
            (joining,) = _work(version, "join")
            do(joining.id)
            resumed = _work(version, "curate")[2:]
            assert [shard.payload["segment"] for shard in resumed] == [0, 1]
            list(pool.map(do, [shard.id for shard in resumed]))
            (closing,) = _work(version, "close")
            do(closing.id)
            assert _version(version).status == "succeeded"
            digests.add(_version(version).digest)
    assert len(digests) == 1


def test_a_shard_whose_workers_keep_dying_fails_its_version_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    version = _planned(_dataset(), _file(monkeypatch, num_segments=3))
    shards = _work(version, "curate")
    for _ in range(get_settings().max_attempts):
        _die(shards[1].id)
    do(shards[1].id)
    dead = _work(version, "curate")
    assert [work.state for work in dead] == ["cancelled", "dead", "cancelled"]
    assert dead[1].error == "its worker died 3 times"
    failed = _version(version)
    assert (failed.status, failed.error) == ("failed", "segment 1: its worker died 3 times")
    do(shards[0].id)
    assert _version(version).status == "failed"
    with writing() as session:
        _, token = create_key(session, "test", ["admin"])
    answer = TestClient(create_app()).get("/v1/dead_letters", headers={"Authorization": f"Bearer {token}"})
    (letter,) = answer.json()["data"]
    assert (letter["kind"], letter["subject"], letter["ordinal"]) == ("curate", version, 1)
    assert letter["reason"] == "its worker died 3 times"


def _failing(error: Callable[[], Exception], times: int) -> Callable[..., object]:
    """Curation that fails some times and then works."""
    left, curate = [times], curating.curate_segment

    def fail(*args: object, **options: object) -> object:
        if left[0] > 0:
            left[0] -= 1
            raise error()
        return curate(*args, **options)  # type: ignore[arg-type]

    return fail


def test_a_fault_is_tried_again_until_the_attempts_are_used_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = _dataset()
    for faults, status in ((2, "running"), (3, "failed")):
        version = _planned(dataset, _file(monkeypatch, num_segments=1))
        (shard,) = _work(version, "curate")
        with monkeypatch.context() as patch:
            patch.setattr(curating, "curate_segment", _failing(lambda: ValueError("a user's words"), faults))
            for _ in range(3):
                do(shard.id)
        assert _version(version).status == status
    reason = "internal error (ValueError) in curate after 3 attempts"
    assert _version(version).error == f"segment 0: {reason}"
    assert _work(version, "curate")[0].error == reason
    assert "a user's words" not in caplog.text


OUTAGES: dict[str, Callable[[], Exception]] = {
    "database": lambda: OperationalError("SELECT 1", None, Exception("gone")),
    "store": lambda: StoreUnavailableError("gone"),
    "disk": lambda: OSError(errno.ENOSPC, "no room"),
}


@pytest.mark.parametrize("outage_of", OUTAGES.values(), ids=OUTAGES.keys())
def test_an_outage_uses_up_no_attempt(monkeypatch: pytest.MonkeyPatch, outage_of: Callable[[], Exception]) -> None:
    monkeypatch.setattr(tasks, "OUTAGE_PAUSE_S", 0.01)
    version = _planned(_dataset(), _file(monkeypatch, num_segments=1))
    (shard,) = _work(version, "curate")
    outage = _failing(outage_of, times=5)
    monkeypatch.setattr(curating, "curate_segment", outage)
    for _ in range(5):
        do(shard.id)
        (left,) = _work(version, "curate")
        assert (left.state, left.attempt) == ("pending", 0)
    do(shard.id)
    assert _work(version, "curate")[0].state == "done"


def test_a_cancelled_version_takes_no_late_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.datasets.service import cancel_version

    version = _planned(_dataset(), _file(monkeypatch, num_segments=1))
    (shard,) = _work(version, "curate")
    curate = curating.curate_segment

    def cancelled_meanwhile(*args: object, **options: object) -> object:
        with writing() as session:
            cancel_version(session, version)
        return curate(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(curating, "curate_segment", cancelled_meanwhile)
    do(shard.id)
    (left,) = _work(version, "curate")
    assert (left.state, left.result) == ("cancelled", None)
    assert _version(version).status == "cancelled"


def test_a_reason_that_holds_nul_is_kept_on_every_database(monkeypatch: pytest.MonkeyPatch) -> None:
    version = _planned(_dataset(), _file(monkeypatch, num_segments=1))
    (shard,) = _work(version, "curate")
    monkeypatch.setattr(curating, "curate_segment", _failing(lambda: CannotBeDoneError("a\x00b"), times=1))
    do(shard.id)
    assert _work(version, "curate")[0].state == "dead"
    assert _version(version).error == "segment 0: a\\0b"
