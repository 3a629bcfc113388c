"""A segment that a recipe has curated before is not curated again."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from app.datasets.repository import Progress, progress_of
from app.db import reading, writing
from app.files.repository import raw_segments
from app.filters.scorer import StoredScorer
from app.models import Dataset, File, KnownResult, Version, VersionFile, Work, new_id
from app.queue import add_work
from app.store import get_store
from curation.command import curate
from curation.recipe import barriers, parse_recipe
from curation.reuse import result_key
from worker import curating
from worker.tasks import do

RECIPE = {"operators": [{"kind": "structure_dialogue"}, {"kind": "tag_users"}]}


def _lines(name: str) -> bytes:
    turns = [{"role": "user", "content": "我是1990年出生的，我是85后"}, {"role": "assistant", "content": "好的"}]
    return b"\n".join(json.dumps({"id": f"{name}{i}", "messages": turns}).encode() for i in range(5))


def _do_all(until: str = "") -> None:
    """Does what there is to do, as workers would, but for one kind of work."""
    while True:
        with reading() as session:
            waiting = [work.id for work in session.query(Work).filter(Work.state == "pending", Work.kind != until)]
        if not waiting:
            return
        for work_id in waiting:
            do(work_id)


def _file(path: Path, name: str | None = None) -> str:
    if name is not None:
        path.write_bytes(_lines(name))
    blob = get_store().put_file(path)
    with writing() as session:
        file = File(id=new_id("file"), purpose="conversations", filename=path.name, bytes=blob.bytes, sha256=blob.sha256, speakers={}, columns={}, detection={}, counts={}, warnings=[])  # fmt: skip
        session.add(file)
        add_work(session, "ingest", file.id)
    _do_all()
    return file.id


def _version(*files: str, as_of: str = "2026-11-25", recipe: dict[str, Any] = RECIPE, until: str = "") -> Version:
    parsed = parse_recipe(recipe, scorers={"rm-1": StoredScorer("sha256:1", "1")})
    with writing() as session:
        dataset = Dataset(id=new_id("ds"), name="test")
        session.add(dataset)
        version = Version(id=new_id("ver"), dataset_id=dataset.id, number=1, status="queued", recipe=parsed.resolved, recipe_fingerprint=parsed.fingerprint, as_of=as_of, counts={}, warnings=[])  # fmt: skip
        session.flush()
        session.add(version)
        session.flush()
        session.add_all(VersionFile(version_id=version.id, ordinal=i, file_id=file) for i, file in enumerate(files))
        add_work(session, "plan", version.id)
    _do_all(until)
    with reading() as session:
        return session.get_one(Version, version.id)


@pytest.fixture
def curated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the segments that are really curated."""
    done: list[int] = []

    def curate_segment(*args: Any, **options: Any) -> Any:
        done.append(options["ordinal"])
        return real(*args, **options)

    real = curating.curate_segment
    monkeypatch.setattr(curating, "curate_segment", curate_segment)
    return done


def test_only_what_is_new_is_curated_and_the_outcome_is_the_same(tmp_path: Path, curated: list[int]) -> None:
    old, new = _file(tmp_path / "old.jsonl", "a"), _file(tmp_path / "new.jsonl", "b")
    first = _version(old)
    assert (first.status, curated) == ("succeeded", [0])
    both = _version(old, new, as_of="2026-12-24")
    assert (both.status, curated) == ("succeeded", [0, 1]), "the old segment is taken over, a month later too"
    paths = [tmp_path / "old.jsonl", tmp_path / "new.jsonl"]
    alone = curate(paths, tmp_path / "alone", recipe=parse_recipe(RECIPE), as_of=date(2026, 12, 24))
    assert both.digest == alone["digest"]
    assert both.counts == alone["counts"]
    again = _version(new, old)
    assert again.status == "succeeded"
    assert curated == [0, 1, 0, 1], "in another place a file's rows name another file"


def test_another_year_or_recipe_is_curated_anew(tmp_path: Path, curated: list[int]) -> None:
    file = _file(tmp_path / "a.jsonl", "a")
    digests = {
        _version(file).digest, _version(file, as_of="2027-01-01").digest,
        _version(file, recipe={"operators": [{"kind": "structure_dialogue", "join": " "}]}).digest,
    }  # fmt: skip
    assert curated == [0, 0, 0]
    assert len(digests) == 3


def test_a_key_says_everything_that_the_result_depends_on(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.jsonl", "a")
    _version(file)
    with reading() as session:
        raw = raw_segments(session, file)[0].sha256
        known = [row.key for row in session.query(KnownResult)]
    common: dict[str, Any] = {"file": 0, "as_of": date(2026, 1, 1), "ids": {}}
    recipe = parse_recipe(RECIPE)
    assert known == [result_key(raw, recipe, **common)]
    others = [
        result_key("0" * 64, recipe, **common), result_key(raw, parse_recipe(None), **common),
        *(result_key(raw, recipe, **{**common, **change}) for change in ({"file": 1}, {"as_of": date(2025, 1, 1)}, {"ids": {3: "x"}})),
    ]  # fmt: skip
    assert len({*known, *others}) == 6


BARRIER = {
    "operators": [
        {"kind": "structure_dialogue"},
        {"kind": "deduplicate"},
        {"kind": "tag_users"},
        {"kind": "limit_repeats"},
    ]
}


def test_up_to_a_barrier_work_is_known_and_beyond_it_where_the_same_was_decided(
    tmp_path: Path, curated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed: list[tuple[int, int]] = []

    def resume_segment(*args: Any, **options: Any) -> Any:
        resumed.append((options["stage"], options["ordinal"]))
        return real(*args, **options)

    real = curating.resume_segment
    monkeypatch.setattr(curating, "resume_segment", resume_segment)
    old, same = _file(tmp_path / "old.jsonl", "a"), _file(tmp_path / "same.jsonl", "b")
    first = _version(old, recipe=BARRIER)
    assert (first.status, curated, resumed) == ("succeeded", [0], [(1, 0), (2, 0)])
    both = _version(old, same, recipe=BARRIER)
    assert both.status == "succeeded"
    assert curated == [0, 1], "the old segment waits at the barrier already"
    assert resumed[2:] == [(1, 1), (2, 1)], "on the old segment nothing else was decided"
    counts = both.counts["by_operator"]["deduplicate"]["codes"]
    assert counts == {"exact": 9}
    alone = curate(
        [tmp_path / "old.jsonl", tmp_path / "same.jsonl"],
        tmp_path / "alone",
        recipe=parse_recipe(BARRIER),
        as_of=date(2026, 11, 25),
    )
    assert both.digest == alone["digest"]
    assert both.counts == alone["counts"]
    with reading() as session:
        progress = progress_of(session, [both.id])[both.id]
    assert progress == Progress(shards_done=6, shards_total=6, conversations_done=10)


def test_progress_knows_of_shards_behind_barriers(tmp_path: Path) -> None:
    file = _file(tmp_path / "a.jsonl", "a")
    version = _version(file, recipe=BARRIER, until="join")
    with reading() as session:
        progress = progress_of(session, [version.id])[version.id]
    assert progress == Progress(shards_done=1, shards_total=3, conversations_done=0)


def test_a_version_without_conversations_gets_over_barriers(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'{"messages": []}\n{"messages": []}')
    version = _version(_file(tmp_path / "bad.jsonl"), recipe=BARRIER)
    assert (version.status, version.counts["conversations_in"]) == ("succeeded", 0)


@pytest.mark.parametrize(("first", "queue"), [("score_reward", "train"), ("deduplicate", "curate")])
def test_what_a_reward_model_scores_waits_beside_the_trainings(tmp_path: Path, first: str, queue: str) -> None:
    score = {"kind": "score_reward", "reward_model": "rm-1"}
    steps = [score, {"kind": "deduplicate"}] if first == "score_reward" else [{"kind": "deduplicate"}, score]
    recipe = {"operators": [{"kind": "structure_dialogue"}, *steps]}
    made = _version(_file(tmp_path / "a.jsonl", "a"), recipe=recipe, until="curate")
    with reading() as session:
        assert {work.queue for work in session.query(Work).filter(Work.subject == made.id, Work.kind == "curate")} == {
            queue
        }
    assert barriers(made.recipe)[0] == first
