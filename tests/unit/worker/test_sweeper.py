"""Nudges: few of them for much work, and none that is lost for good."""

from servers import Server
from sqlalchemy import delete, func, select, update

from app.db import clock_s, reading, writing
from app.models import Dataset, Outbox, Version, Work
from app.queue import NUDGES_AHEAD, add_shards, add_work, announce_next, num_waiting, send_nudges
from app.settings import get_settings
from worker.leases import claim, finish
from worker.sweeper import sweep

SHARDS = [{"raw": f"{i:064x}", "file": 0, "ids": {}} for i in range(200)]


def _announced() -> list[str]:
    with reading() as session:
        return list(session.scalars(select(Outbox.work_id).order_by(Outbox.seq)))


def _lose_nudges() -> None:
    with writing() as session:
        session.execute(delete(Outbox))


def _let_time_pass(*work_ids: str) -> None:
    with writing() as session:
        long_ago = clock_s() - 2 * get_settings().nudge_again_s
        session.execute(update(Work).where(Work.id.in_(work_ids)).values(nudged_at=long_ago))


def test_shards_are_added_in_their_order() -> None:
    with writing() as session:
        add_shards(session, "curate", "ver-1", SHARDS)
    with reading() as session:
        assert session.scalars(select(Work.payload).order_by(Work.ordinal)).all() == SHARDS
        assert set(session.scalars(select(Work.state))) == {"pending"}


def test_each_finished_shard_announces_another() -> None:
    with writing() as session:
        add_shards(session, "curate", "ver-1", SHARDS)
    shards = _ids()
    assert _announced() == shards[:NUDGES_AHEAD]
    for ordinal in range(len(SHARDS)):
        with writing() as session:
            announce_next(session, "curate", "ver-1", ordinal)
    assert _announced() == shards


def test_nothing_is_announced_twice_by_shards_that_are_done_twice() -> None:
    with writing() as session:
        add_shards(session, "curate", "ver-1", SHARDS)
        announce_next(session, "curate", "ver-1", 0)
        announce_next(session, "curate", "ver-1", 0)
    assert len(_announced()) == NUDGES_AHEAD + 1


def test_a_lost_nudge_is_found(broker: Server) -> None:
    with writing() as session:
        work_id = add_work(session, "ingest", "file-1").id
    _lose_nudges()
    sweep()
    assert num_waiting("curate") == 0, "it may still be on its way"
    _let_time_pass(work_id)
    sweep()
    assert num_waiting("curate") == 1
    sweep()
    assert num_waiting("curate") == 1


def test_work_whose_owner_has_gone_is_announced(broker: Server) -> None:
    with writing() as session:
        work_id = add_work(session, "ingest", "file-1").id
    assert claim(work_id, "gone") is not None
    _lose_nudges()
    _let_time_pass(work_id)
    sweep()
    assert num_waiting("curate") == 0, "it is being done"
    with writing() as session:
        session.execute(update(Work).where(Work.id == work_id).values(lease_until=0.0))
    sweep()
    assert num_waiting("curate") == 1


def test_the_queue_is_filled_up_but_never_flooded(broker: Server) -> None:
    with writing() as session:
        add_shards(session, "curate", "ver-1", SHARDS)
    _lose_nudges()
    for _ in range(3):
        sweep()
    assert num_waiting("curate") == NUDGES_AHEAD
    _let_time_pass(*_ids())
    sweep()
    assert num_waiting("curate") == NUDGES_AHEAD


def test_a_broker_that_is_away_costs_no_nudge(broker: Server) -> None:
    with writing() as session:
        work_id = add_work(session, "ingest", "file-1").id
    broker.stop()
    assert send_nudges() == 0
    _let_time_pass(work_id)
    sweep()
    assert _announced() == [work_id]


def test_a_version_that_nobody_closed_is_closed() -> None:
    with writing() as session:
        session.add(Dataset(id="ds-1", name="test"))
        session.flush()
        version = {"dataset_id": "ds-1", "status": "running", "recipe": {}, "recipe_fingerprint": "", "as_of": ""}
        session.add_all(Version(id=f"ver-{i}", number=i, **version) for i in (1, 2))
        session.flush()
        done, open_ = (add_work(session, "curate", f"ver-{i}").id for i in (1, 2))
    lease = claim(done, "me")
    assert lease is not None
    with writing() as session:
        finish(session, lease, {})
    for _ in range(2):
        sweep()
    with reading() as session:
        closing = session.scalars(select(Work.subject).where(Work.kind == "close")).all()
        assert closing == ["ver-1"]
        assert session.scalar(select(func.count()).where(Work.id == open_, Work.state == "pending")) == 1


def _ids() -> list[str]:
    with reading() as session:
        return list(session.scalars(select(Work.id).order_by(Work.ordinal)))
