"""A version is the same whatever it is cut into and whoever works on it; its recipe holds every operator there is."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from golden.cases import AS_OF
from laws.conversations import every_operator

from curation.command import curate


@pytest.fixture(scope="module")
def source(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, with lines that are no good and one that comes again."""
    lines = (examples / "dialogues.jsonl").read_bytes().splitlines()
    lines[7:7] = [b"{", b"", b'{"messages": []}', "好".encode("gb18030")]
    path = tmp_path_factory.mktemp("source") / "talks.jsonl"
    path.write_bytes(b"\n".join([*lines, lines[0]]))
    return path


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The manifest of a version made of one segment by one worker."""
    return curate([source], tmp_path_factory.mktemp("whole") / "out", recipe=every_operator(), as_of=AS_OF)


@pytest.mark.parametrize("segment_bytes", [10_000, 50_000])
def test_a_digest_does_not_depend_on_segments(
    source: Path, whole: dict[str, object], tmp_path: Path, segment_bytes: int
) -> None:
    cut = curate([source], tmp_path / "out", recipe=every_operator(), as_of=AS_OF, segment_bytes=segment_bytes)
    assert len(cut["segments"]) > 3
    assert cut["digest"] == whole["digest"]
    assert cut["counts"] == whole["counts"]


@pytest.mark.parametrize("compressed", [False, True])
def test_two_workers_write_the_same_bytes_as_one(source: Path, tmp_path: Path, compressed: bool) -> None:
    if compressed:
        content, source = source.read_bytes(), tmp_path / "talks.jsonl.gz"
        source.write_bytes(gzip.compress(content))
    made = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        manifest = curate([source], out, recipe=every_operator(), as_of=AS_OF, segment_bytes=60_000, workers=workers)
        assert len(manifest["segments"]) > 3
        made[workers] = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert made[1] == made[2]
    quarantine = pl.read_parquet(tmp_path / "1" / "quarantine.parquet")
    assert quarantine["line"].to_list() == [8, 10, 11]
