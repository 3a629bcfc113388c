"""A version is the same whatever it is cut into and whoever works on it; its recipe holds every operator there is."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from golden.cases import AS_OF
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.conversations import KINDS, cases_of, conversations, every_operator

from curation.command import curate
from curation.operator import REGISTRY
from curation.processes import processes

SMALLEST_SEGMENT = 1_024


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
        with processes(workers) as spread:
            manifest = curate([source], out, recipe=every_operator(), as_of=AS_OF, segment_bytes=60_000, spread=spread)
        assert len(manifest["segments"]) > 3
        made[workers] = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert made[1] == made[2]
    quarantine = pl.read_parquet(tmp_path / "1" / "quarantine.parquet")
    assert quarantine["line"].to_list() == [8, 10, 11]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if REGISTRY[kind].barrier is not None])
@settings(max_examples=settings().max_examples // 6)
@given(data=st.data())
def test_an_operator_of_the_dataset_decides_the_same_however_it_is_cut(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The input's order decides, over all segments and files; where they end does not."""
    recipe = data.draw(st.sampled_from(cases_of(kind))).recipe
    batches = data.draw(st.lists(conversations(kind), min_size=2, max_size=3))
    given = [{**one, "id": f"c{index}"} for index, one in enumerate(one for batch in batches for one in batch)]
    cut, folder = data.draw(st.integers(1, len(given))), tmp_path_factory.mktemp("cut")
    one_file, files = folder / "all.jsonl", [folder / "first.jsonl", folder / "second.jsonl"]
    for path, part in zip([one_file, *files], [given, given[:cut], given[cut:]], strict=True):
        path.write_text("".join(json.dumps(one) + "\n" for one in part))
    made = [
        _what_came_out(curate(sources, folder / name, recipe=recipe, as_of=AS_OF, segment_bytes=size), folder / name)
        for name, sources, size in (
            ("whole", [one_file], 1_000_000),
            ("segments", [one_file], SMALLEST_SEGMENT),
            ("files", [path for path in files if path.stat().st_size], 1_000_000),
        )
    ]
    assert made[0] == made[1] == made[2]


def _what_came_out(manifest: dict[str, Any], folder: Path) -> tuple[str, list[tuple[Any, ...]]]:
    """The digest and the trace, segments joined."""
    traces = [pl.read_parquet(folder / part["path"]) for part in manifest["trace"]]
    return manifest["digest"], pl.concat(traces).rows()
