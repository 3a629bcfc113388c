"""What nothing names leaves the store in two steps, and comes back when it is wanted; on a folder and on a bucket."""

import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from servers import Server, s3
from service_in_process import do_pending_work
from sqlalchemy import select, update

from app import collection
from app.collection import DAY_S, collect
from app.datasets.schemas import NewVersion
from app.datasets.service import create_version
from app.db import reading, writing
from app.models import Dataset, File, KnownResult, Version, Work, new_id
from app.queue import add_work
from app.settings import get_settings
from app.store import get_store
from worker.sweeper import sweep

SAID = b'{"id":"c1","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def later(
    request: pytest.FixtureRequest, client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Later":
    """A store of one kind or the other, and a clock for who collects."""
    if request.param == "bucket":
        server: Server = request.getfixturevalue("server")
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TALKMILL_STORE_URL", f"{server.env['TALKMILL_STORE_URL']}/{tmp_path.name}")
        get_settings.cache_clear()
    return Later(monkeypatch)


class Later:
    """Lets days pass for the collection, and for what it compares with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, days: float) -> None:
        now = time.time() + days * DAY_S
        self._monkeypatch.setattr(collection, "time", SimpleNamespace(time=lambda: now))


def put(content: bytes) -> str:
    return get_store().put(io.BytesIO(content)).sha256


def names() -> set[str]:
    return {blob.sha256 for blob in get_store().kept()}


def aside() -> set[str]:
    return {blob.sha256 for blob in get_store().aside()}


def uploaded(content: bytes) -> str:
    blob = get_store().put(io.BytesIO(content))
    with writing() as session:
        file = File(
            id=new_id("file"), purpose="conversations", filename="a.jsonl", bytes=blob.bytes, sha256=blob.sha256
        )
        session.add(file)
        session.flush()
        add_work(session, "ingest", file.id)
    do_pending_work()
    return file.id


def test_a_nameless_blob_is_set_aside_and_then_removed(later: Later) -> None:
    nameless = put(b"nobody names me")
    assert collect().set_aside == 0, "somebody may be about to name it"
    later(1.1)
    assert collect(dry_run=True).set_aside == 1
    assert names() == {nameless}, "a dry run does nothing"
    found = collect()
    assert (found.set_aside, found.set_aside_bytes) == (1, 15)
    assert (names(), aside()) == (set(), {nameless})
    later(5)
    assert collect().removed == 0
    later(8.2)
    found = collect()
    assert (found.removed, found.removed_bytes) == (1, 15)
    assert (names(), aside()) == (set(), set())
    with pytest.raises(FileNotFoundError, match=nameless):
        get_store().path(nameless)


def test_who_asks_for_a_blob_that_is_aside_gets_it_back(later: Later) -> None:
    nameless = put(b"nobody names me")
    later(1.1)
    collect()
    assert b"".join(get_store().chunks(nameless)) == b"nobody names me"
    assert (names(), aside()) == ({nameless}, set())


def test_one_that_is_stored_or_named_again_stays(later: Later) -> None:
    again, named = put(b"stored again"), put(b"named again")
    later(1.1)
    (listed,) = (blob for blob in get_store().kept() if blob.sha256 == again)
    put(b"stored again")
    # A bucket takes what is young for stored already; there it is what was listed earlier that is no longer so.
    listed = replace(listed, since=listed.since - 1)
    assert not get_store().set_aside(listed)
    assert again in names()
    collect()
    with writing() as session:
        session.add(KnownResult(key="k", result={"deep": [{"sha256": named}]}))
    found = collect()
    assert found.taken_back == 1
    assert named in names()
    assert get_store().path(named).read_bytes() == b"named again"


def test_a_version_and_what_it_was_made_of_stay_whole(later: Later) -> None:
    file_id = uploaded(SAID)
    with writing() as session:
        dataset = Dataset(id=new_id("ds"), name="calls")
        session.add(dataset)
        session.flush()
        version_id = create_version(session, dataset.id, NewVersion(files=[file_id])).id
    do_pending_work()
    with reading() as session:
        version = session.get_one(Version, version_id)
        assert version.status == "succeeded"
        file = session.get_one(File, file_id)
        results = session.scalars(select(KnownResult.result)).all()
    manifest = get_store().path(str(version.manifest_sha256)).read_text()
    needed = {file.sha256, str(version.manifest_sha256), *collection.NAME.findall(manifest)} & names()
    on_the_way = set(collection.NAME.findall(json.dumps(results))) & names()
    assert (len(needed) > 3, len(on_the_way - needed) > 0) == (True, True)
    later(1.1)
    collect()
    assert needed | on_the_way <= names(), "the next version finds what was made on the way"
    later(100)
    collect()
    with reading() as session:
        assert session.scalars(select(KnownResult)).all() == []
    assert needed <= names()
    assert not (on_the_way - needed) & names(), "nobody asked for it in 90 days"


def test_nothing_is_collected_while_a_manifest_is_missing(later: Later) -> None:
    uploaded(SAID)
    nameless = put(b"nobody names me")
    with writing() as session:
        dataset = Dataset(id=new_id("ds"), name="calls")
        session.add(dataset)
        session.flush()
        session.add(
            Version(
                id=new_id("ver"),
                dataset_id=dataset.id,
                number=1,
                recipe={},
                recipe_fingerprint="",
                as_of="2026-11-01",
                manifest_sha256="0" * 64,
            )
        )
    later(1.1)
    with pytest.raises(FileNotFoundError, match="0000"):
        collect()
    assert nameless in names()


def test_workers_collect_once_a_day(later: Later) -> None:
    uploaded(SAID)
    nameless = put(b"nobody names me")
    sweep()
    with writing() as session:
        assert session.scalars(select(Work).where(Work.kind == "collect")).all() == [], "nothing is a day old"
        session.execute(update(File).values(created_at=time.time() - 2 * DAY_S))
    sweep()
    sweep()
    later(1.1)
    do_pending_work()
    with reading() as session:
        (work,) = session.scalars(select(Work).where(Work.kind == "collect"))
    assert work.state == "done"
    assert nameless in aside()
