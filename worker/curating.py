"""The background work of files and versions: ingest a file; plan a version, curate its shards, close it.

Each step computes in a scratch folder, stores its results as blobs, and publishes them in one transaction that also
ends its lease. Killed anywhere, it leaves scratch and unreferenced blobs, nothing else.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import insert, reading, writing
from app.files.repository import CONVERSATIONS
from app.filters.repository import filters_by_id, scorers_by_id
from app.lexicons.repository import lexicons_by_id
from app.models import File, Json, KnownResult, LearnedFilter, RawSegment, Review, Version, VersionFile, Work
from app.queue import add_nudge, add_shards, add_work, announce_next
from app.settings import get_settings
from app.store import get_store
from app.training.waiting import version_ended
from curation.formats import ingest, repeated_ids
from curation.recipe import Recipe, barriers, filter_ids, lexicon_ids, num_barriers, parse_recipe, scorer_ids
from curation.reuse import renumbered, result_key, resumed_key
from curation.run import (
    Part,
    Result,
    SegmentResult,
    StageResult,
    close_version,
    curate_segment,
    decide,
    read_result,
    resume_segment,
)
from worker.leases import Lease, finish, give_back

OPEN_STATES = ("pending", "leased")


class CannotBeDoneError(Exception):
    """The work will never succeed; the message is for the user."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone when the block ends."""
    root = get_settings().work_dir
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- files ---------------------------------------------------------------------------------------------------------


def ingest_file(lease: Lease) -> None:
    """Turns an uploaded file into raw segments and a quarantine; wakes what waits for it."""
    with writing() as session:
        file = session.get_one(File, lease.subject)
        file.status = "processing"
    store = get_store()
    talks = file.purpose in CONVERSATIONS
    with scratch() as folder:
        ingested = ingest(
            store.path(file.sha256),
            folder,
            sha256=file.sha256,
            purpose="conversations" if talks else file.purpose,
            speakers=file.speakers,
            columns=file.columns,
            segment_bytes=get_settings().segment_bytes,
        )
        crash_point("after_segments_written")
        segments = [(segment, store.put_file(segment.path)) for segment in ingested.segments]
        quarantine = store.put_file(ingested.quarantine)
    crash_point("after_segment_rename")
    counts = {"conversations": ingested.conversations, "turns": ingested.turns}
    counts = {**(counts if talks else {"records": ingested.conversations}), "quarantined": ingested.quarantined}
    with writing() as session:
        finish(session, lease, counts)
        session.execute(delete(RawSegment).where(RawSegment.file_id == file.id))
        for ordinal, (segment, blob) in enumerate(segments):
            session.add(
                RawSegment(
                    file_id=file.id,
                    ordinal=ordinal,
                    sha256=blob.sha256,
                    bytes=blob.bytes,
                    conversations=segment.conversations,
                    turns=segment.turns,
                )
            )
        file = session.get_one(File, lease.subject)
        file.status = "processed"
        file.format = ingested.format
        file.detection = ingested.detection
        file.counts = counts
        file.warnings = list(ingested.warnings)
        file.quarantine_sha256 = quarantine.sha256
        _wake_users(session, file.id)
        crash_point("ingest_before_commit")
    crash_point("ingest_committed")


def fail_file(session: Session, lease: Lease, error: str) -> None:
    """The file could not be ingested at all."""
    file = session.get(File, lease.subject)
    if file is not None:
        file.status = "error"
        file.status_details = error
        _wake_users(session, file.id)


def _wake_users(session: Session, file_id: str) -> None:
    versions = select(VersionFile.version_id).where(VersionFile.file_id == file_id)
    filters = select(LearnedFilter.id).where(LearnedFilter.file_id == file_id)
    plans = and_(Work.kind == "plan", Work.subject.in_(versions))
    trainings = and_(Work.kind.in_(("learn", "learn_reward")), Work.subject.in_(filters))
    reviews = and_(Work.kind == "review", Work.subject.in_(select(Review.id).where(Review.prompts == file_id)))
    waiting = select(Work).where(or_(plans, trainings, reviews), Work.state.in_(OPEN_STATES))
    for work in session.execute(waiting).scalars():
        add_nudge(session, work)


# ---- versions ------------------------------------------------------------------------------------------------------


def plan_version(lease: Lease) -> None:
    """Makes one shard of work per raw segment, once every file of the version is processed.

    Behind each barrier of the recipe there will be as many again.
    """
    store = get_store()
    with reading() as session:
        files = _files_of(session, lease.subject)
        segments = [
            (ordinal, file, segment)
            for ordinal, file in enumerate(files)
            for segment in session.scalars(
                select(RawSegment).where(RawSegment.file_id == file.id).order_by(RawSegment.ordinal)
            )
        ]
    for file in files:
        if file.status == "error":
            raise CannotBeDoneError(f"file {file.id} could not be read: {file.status_details}")
    if any(file.status != "processed" for file in files):
        _wait_for_files(lease)
        return
    renames = repeated_ids([(store.path(segment.sha256), file.sha256) for _, file, segment in segments])
    payloads = [
        {"segment": place, "raw": segment.sha256, "file": ordinal, "ids": {str(line): new for line, new in ids.items()}}
        for place, ((ordinal, _, segment), ids) in enumerate(zip(segments, renames, strict=True))
    ]
    warnings = [
        f"{file.filename}: {len(ids)} repeated conversation ids renamed"
        for (_, file, _), ids in zip(segments, renames, strict=True)
        if ids
    ]
    with writing() as session:
        version = session.get_one(Version, lease.subject, with_for_update=True)
        finish(session, lease, {"shards": len(segments) * (num_barriers(version.recipe) + 1)})
        version.status = "running"
        version.warnings = [*version.warnings, *warnings]
        session.flush()
        add_shards(session, "curate", version.id, payloads, queue=_queue(version.recipe, stage=0))
        go_on_if_complete(session, version.id)
        crash_point("plan_before_commit")
    crash_point("plan_committed")


def _queue(recipe: Json, stage: int) -> str:
    """Where the shards before a barrier wait: those that a reward model scores, beside the trainings."""
    return "train" if barriers(recipe)[stage : stage + 1] == ["score_reward"] else "curate"


def _wait_for_files(lease: Lease) -> None:
    """Gives the plan back; the last file to be ingested announces it again, even if it ended just before."""
    give_back(lease, nudge=False)
    with writing() as session:
        if all(file.status in ("processed", "error") for file in _files_of(session, lease.subject)):
            add_nudge(session, session.get_one(Work, lease.work_id))


def curate_shard(lease: Lease) -> None:
    """Curates one raw segment by the version's recipe, or takes over what an earlier version made of both.

    Where the recipe has barriers that is the way to the first one, or from one to the next or to the end.
    """
    payload = lease.payload
    with reading() as session:
        version = session.get_one(Version, lease.subject)
        recipe = _recipe_of(session, version)
        as_of, file, stage = date.fromisoformat(version.as_of), payload["file"], payload.get("stage", 0)
        ids = {int(line): new for line, new in payload.get("ids", {}).items()}
        if stage:
            key = resumed_key(payload["key"], payload["decisions"], recipe, stage)
        else:
            key = result_key(payload["raw"], recipe, file=file, as_of=as_of, ids=ids)
        known = session.get(KnownResult, key)
    store, place = get_store(), {"ordinal": payload["segment"], "file": file, "as_of": as_of}
    if known is not None:
        result = renumbered(read_result(known.result), payload["segment"])
    else:
        with scratch() as folder:
            if stage:
                files = {name: store.path(sha256) for name, sha256 in payload["passage"].items()}
                decisions = store.path(payload["decisions"])
                result = resume_segment(files, decisions, recipe, folder, stage=stage, **place)
            else:
                result = curate_segment(store.path(payload["raw"]), recipe, folder, ids=ids, **place)
            _store_parts(result, folder)
    crash_point("curate_results_stored")
    with writing() as session:
        session.get_one(Version, lease.subject, with_for_update=True)
        finish(session, lease, {**asdict(result), "key": key})
        if known is None:
            session.execute(insert(KnownResult).values(key=key, result=asdict(result)).on_conflict_do_nothing())
        else:
            session.execute(update(KnownResult).where(KnownResult.key == key).values(used_at=time.time()))
        announce_next(session, lease.kind, lease.subject, lease.ordinal)
        go_on_if_complete(session, lease.subject)
        crash_point("curate_before_commit")
    crash_point("curate_committed")


def _store_parts(result: Result, folder: Path) -> None:
    for part in vars(result).values():
        if isinstance(part, Part):
            blob = get_store().put_file(folder / part.path)
            assert blob.sha256 == part.sha256


def go_on_if_complete(session: Session, version_id: str) -> None:
    """Adds what follows when no work of a running version is open: the decision at its next barrier, or its closing.

    The caller's transaction locks the version.
    """
    version = session.get_one(Version, version_id, with_for_update=True)
    if version.status != "running":
        return
    is_open = select(Work.id).where(Work.subject == version_id, Work.state.in_(OPEN_STATES))
    is_closed = select(Work.id).where(Work.subject == version_id, Work.kind == "close")
    if session.scalar(select(or_(is_open.exists(), is_closed.exists()))):
        return
    joined = select(func.count()).where(Work.subject == version_id, Work.kind == "join")
    num_joined = session.scalar(joined) or 0
    if num_joined < num_barriers(version.recipe):
        add_work(session, "join", version_id, ordinal=num_joined + 1)
    else:
        add_work(session, "close", version_id)


def join(lease: Lease) -> None:
    """Decides at a barrier, whose number is the lease's, on all segments together, and makes their next shards."""
    stage = lease.ordinal
    with reading() as session:
        recipe = _recipe_of(session, session.get_one(Version, lease.subject))
        shards = _shards_of(session, lease.subject, stage - 1)
    store = get_store()
    waiting = [(shard, result) for shard in shards if isinstance(result := _result_of(shard), StageResult)]
    assert len(waiting) == len(shards)
    with scratch() as folder:
        results = [result for _, result in waiting]
        decisions = decide(results, lambda part: store.path(part.sha256), recipe, folder, stage=stage)
        for part in decisions:
            store.put_file(folder / part.path)
    crash_point("join_decisions_stored")
    payloads = [
        {
            "stage": stage,
            "segment": shard.payload["segment"],
            "file": shard.payload["file"],
            "key": (shard.result or {})["key"],
            "passage": {name: part.sha256 for name, part in result.passage.items()},
            "decisions": decided.sha256,
        }
        for (shard, result), decided in zip(waiting, decisions, strict=True)
    ]
    with writing() as session:
        session.get_one(Version, lease.subject, with_for_update=True)
        finish(session, lease, {"shards": len(payloads)})
        session.flush()
        queue = _queue(session.get_one(Version, lease.subject).recipe, stage)
        add_shards(session, "curate", lease.subject, payloads, first=stage * len(payloads), queue=queue)
        go_on_if_complete(session, lease.subject)
        crash_point("join_before_commit")
    crash_point("join_committed")


def _shards_of(session: Session, version_id: str, stage: int) -> list[Work]:
    """The shards between two barriers, in the order of segments."""
    mine = select(Work).where(Work.subject == version_id, Work.kind == "curate").order_by(Work.ordinal)
    return [shard for shard in session.scalars(mine) if shard.payload.get("stage", 0) == stage]


def _result_of(shard: Work) -> Result:
    return read_result({name: part for name, part in (shard.result or {}).items() if name != "key"})


def close(lease: Lease) -> None:
    """Joins the shards into the manifest and publishes the version."""
    with reading() as session:
        version = session.get_one(Version, lease.subject)
        recipe = _recipe_of(session, version)
        shards = _shards_of(session, version.id, num_barriers(version.recipe))
    store = get_store()
    results = [result for shard in shards if isinstance(result := _result_of(shard), SegmentResult)]
    with scratch() as folder:
        for result in results:
            store.materialise(result.segment.sha256, folder / result.segment.path)
        manifest = close_version(
            results, recipe, folder, as_of=date.fromisoformat(version.as_of), warnings=version.warnings
        )
        store.put_file(folder / manifest["tags"]["path"])
        blob = store.put_file(folder / "manifest.json")
    crash_point("close_manifest_stored")
    with writing() as session:
        version = session.get_one(Version, lease.subject, with_for_update=True)
        finish(session, lease, {"manifest": blob.sha256})
        version.status = "succeeded"
        version.digest = manifest["digest"]
        version.counts = manifest["counts"]
        version.warnings = manifest["warnings"]
        version.manifest_sha256 = blob.sha256
        version.finished_at = time.time()
        version_ended(session, version)
        crash_point("close_before_commit")
    crash_point("close_committed")


def fail_version(session: Session, lease: Lease, error: str) -> None:
    """A shard, the plan or the closing of the version cannot be done: the version fails, its other open work ends."""
    version = session.get(Version, lease.subject, with_for_update=True)
    if version is None or version.status not in ("queued", "running"):
        return
    version.status = "failed"
    version.error = f"segment {lease.payload['segment']}: {error}" if lease.kind == "curate" else error
    version.finished_at = time.time()
    version_ended(session, version)
    others = (Work.subject == version.id, Work.id != lease.work_id, Work.state.in_(OPEN_STATES))
    session.execute(update(Work).where(*others).values(state="cancelled"))


def _files_of(session: Session, version_id: str) -> list[File]:
    statement = (
        select(File)
        .join(VersionFile, VersionFile.file_id == File.id)
        .where(VersionFile.version_id == version_id)
        .order_by(VersionFile.ordinal)
    )
    return list(session.scalars(statement))


def _recipe_of(session: Session, version: Version) -> Recipe:
    body: Json = version.recipe
    lexicons = lexicons_by_id(session, lexicon_ids(body))
    filters, scorers = filters_by_id(session, filter_ids(body)), scorers_by_id(session, scorer_ids(body))
    return parse_recipe(body, lexicons=lexicons, filters=filters, scorers=scorers)
