"""The two last shards before a barrier commit at the same moment: somebody leads the version on, and only one does."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from unittest.mock import patch

from chaos.rounds import Loss
from chaos.scenario import Scenario
from sqlalchemy import select

from app import migrations
from app.crash import Point
from app.db import get_engine, reading, writing
from app.models import Dataset, Version, Work
from app.queue import add_work
from app.settings import get_settings
from app.store import get_store
from curation.formats import ingest
from curation.recipe import parse_recipe
from worker.curating import curate_shard, go_on_if_complete
from worker.leases import Lease, claim


@contextmanager
def service_in_process(database_url: str, folder: Path) -> Iterator[None]:
    """The service's settings name the database and a store in the folder; its tables are there."""
    env = {"TALKMILL_DATABASE_URL": database_url, "TALKMILL_DATA_DIR": str(folder)}
    env |= {"TALKMILL_BROKER_URL": "redis://127.0.0.1:1/0", "TALKMILL_STORE_URL": ""}
    with patch.dict(os.environ, env):
        get_settings.cache_clear()
        migrations.upgrade()
        try:
            yield
        finally:
            get_engine().dispose()
            get_settings.cache_clear()


def two_last_shards(scenario: Scenario, folder: Path, times: int) -> str:
    """Two threads curate the shards of a version of two, and meet just before they commit, so many times."""
    raw = _raw_segment(scenario, folder)
    for number in range(times):
        version, leases = _version_of_two(raw, number)
        _commit_together(leases)
        with reading() as session:
            states = list(session.scalars(select(Work.state).where(Work.subject == version, Work.kind == "curate")))
            closings = session.scalars(
                select(Work).where(Work.subject == version, Work.kind.in_(("join", "close")))
            ).all()
        if states != ["done", "done"] or len(closings) != 1:
            raise Loss(f"time {number}: the shards are {states}, {len(closings)} decisions at the barrier")
        with writing() as session:  # the sweeper looks too
            go_on_if_complete(session, version)
    return f"{times} times"


def _raw_segment(scenario: Scenario, folder: Path) -> str:
    name, content = scenario.files(0)[2]
    (folder / name).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    made = ingest(folder / name, folder / "raw", sha256=sha256, purpose="conversations", segment_bytes=1 << 20)
    return get_store().put_file(made.segments[0].path).sha256


def _version_of_two(raw: str, number: int) -> tuple[str, list[Lease]]:
    recipe = parse_recipe(None)
    with writing() as session:
        dataset = Dataset(id=f"ds-{number}", name="race", description=None)
        version = Version(
            id=f"ver-{number}", dataset_id=dataset.id, number=1, status="running", recipe=recipe.resolved,
            recipe_fingerprint=recipe.fingerprint, as_of=date(2026, 11, 25).isoformat(), note=None,
        )  # fmt: skip
        session.add(dataset)
        session.flush()
        session.add(version)
        payload = {"raw": raw, "file": 0, "ids": {}}
        shards = [
            add_work(session, "curate", version.id, ordinal=i, payload={**payload, "segment": i}).id for i in range(2)
        ]
    leases = [claim(shard, f"worker-{i}") for i, shard in enumerate(shards)]
    return version.id, [lease for lease in leases if lease is not None]


def _commit_together(leases: list[Lease]) -> None:
    barrier, failed = threading.Barrier(2), []

    def meet(point: Point) -> None:
        if point == "curate_results_stored":
            barrier.wait(60)

    def work(lease: Lease) -> None:
        try:
            curate_shard(lease)
        except Exception as error:  # noqa: BLE001  (told by the main thread)
            failed.append(error)

    with patch("worker.curating.crash_point", meet):
        threads = [threading.Thread(target=work, args=(lease,)) for lease in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
