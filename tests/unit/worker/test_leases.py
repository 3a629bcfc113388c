"""Claims, fences and heartbeats on a real database."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from servers import Server
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.exc import OperationalError

from app.db import get_engine, reading, writing
from app.models import Outbox, Work
from app.queue import add_work
from app.settings import get_settings
from worker.leases import LeaseLostError, bury, check_held, claim, finish, give_back, kept_alive


def _add() -> str:
    with writing() as session:
        return add_work(session, "ingest", "file-1").id


def _work(work_id: str) -> Work:
    with reading() as session:
        return session.get_one(Work, work_id)


def _expire(work_id: str) -> None:
    with writing() as session:
        session.execute(update(Work).where(Work.id == work_id).values(lease_until=0.0))


def test_only_one_of_many_claims_wins() -> None:
    work_id = _add()
    won: list[str] = []
    barrier = threading.Barrier(8)

    def race(owner: str) -> None:
        barrier.wait()
        if claim(work_id, owner) is not None:
            won.append(owner)

    threads = [threading.Thread(target=race, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert _work(work_id).owner == won[0]


def test_a_late_worker_is_fenced_off() -> None:
    work_id = _add()
    late = claim(work_id, "same-name")
    assert late is not None
    _expire(work_id)
    heir = claim(work_id, "same-name")
    assert heir is not None
    assert heir.fence == late.fence + 1
    with pytest.raises(LeaseLostError), writing() as session:
        finish(session, late, {"from": "late"})
    with writing() as session:
        finish(session, heir, {"from": "heir"})
    assert _work(work_id).result == {"from": "heir"}


def test_what_a_fenced_transaction_wrote_is_rolled_back() -> None:
    work_id, other_id = _add(), None
    late = claim(work_id, "late")
    assert late is not None
    _expire(work_id)
    assert claim(work_id, "heir") is not None
    with pytest.raises(LeaseLostError), writing() as session:
        other_id = add_work(session, "ingest", "file-2").id
        finish(session, late, {})
    with reading() as session:
        assert session.get(Work, other_id) is None


def test_a_lease_from_before_a_reboot_counts_as_expired() -> None:
    work_id = _add()
    assert claim(work_id, "before") is not None
    with writing() as session:
        far = Work.lease_until + 10 * get_settings().lease_s
        session.execute(update(Work).where(Work.id == work_id).values(lease_until=far))
    assert claim(work_id, "after") is not None


def test_a_heartbeat_keeps_the_lease_and_notices_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMILL_LEASE_S", "1.2")
    get_settings.cache_clear()
    work_id = _add()
    lease = claim(work_id, "me")
    assert lease is not None
    with kept_alive(lease) as lost:
        time.sleep(1.8)
        assert claim(work_id, "thief") is None
        assert not lost.is_set()
        with writing() as session:
            session.execute(update(Work).where(Work.id == work_id).values(state="cancelled"))
        assert lost.wait(5)


def test_giving_back_does_not_use_up_an_attempt_unless_it_was_one() -> None:
    work_id = _add()
    lease = claim(work_id, "me")
    assert lease is not None
    give_back(lease, nudge=True)
    assert _work(work_id).attempt == 0
    lease = claim(work_id, "me")
    assert lease is not None
    give_back(lease, nudge=True, error="broke", counts_as_attempt=True)
    work = _work(work_id)
    assert (work.attempt, work.error, work.state) == (1, "broke", "pending")
    with reading() as session:
        assert len(session.scalars(select(Outbox).where(Outbox.work_id == work_id)).all()) == 3


def test_buried_work_is_not_claimed_again() -> None:
    work_id = _add()
    lease = claim(work_id, "me")
    assert lease is not None
    with writing() as session:
        bury(session, lease, "hopeless")
    assert claim(work_id, "you") is None


def test_a_takeover_uses_up_an_attempt_but_none_of_trainings() -> None:
    with writing() as session:
        curate, train = (add_work(session, kind, "x", queue=kind).id for kind in ("curate", "train"))
    for work_id, attempts in ((curate, [1, 2, 3]), (train, [0, 0, 0])):
        for attempt in attempts:
            lease = claim(work_id, "me")
            assert lease is not None
            assert lease.attempt == attempt
            _expire(work_id)
    lease = claim(train, "me")
    assert lease is not None
    give_back(lease, nudge=False, error="broke", counts_as_attempt=True)
    assert _work(train).attempt == 1


def test_what_is_written_under_a_lost_lease_is_refused() -> None:
    work_id = _add()
    late = claim(work_id, "late")
    assert late is not None
    with writing() as session:
        check_held(session, late)
    _expire(work_id)
    assert claim(work_id, "heir") is not None
    with pytest.raises(LeaseLostError), writing() as session:
        check_held(session, late)


def test_a_lease_outlives_an_outage_of_the_database(
    database: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("TALKMILL_LEASE_S", "3")
    get_settings.cache_clear()
    work_id = _add()
    lease = claim(work_id, "me")
    assert lease is not None
    with kept_alive(lease) as lost:
        with _outage(database, request):
            time.sleep(2)
        time.sleep(2.5)
        assert claim(work_id, "thief") is None
        assert not lost.is_set()
    with writing() as session:
        finish(session, lease, {})


@contextmanager
def _outage(kind: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """SQLite: somebody else keeps the lock. PostgreSQL: connections are cut and no new ones are taken."""
    if kind == "sqlite":
        with writing() as session:
            session.execute(text("SELECT 1"))
            yield
        return
    server: Server = request.getfixturevalue("postgresql_server")
    name = get_engine().url.database
    admin = create_engine(server.env["TALKMILL_DATABASE_URL"], isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(cut), {"name": name})
        with pytest.raises(OperationalError), reading() as session:
            session.get(Work, "any")
        yield
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    admin.dispose()
