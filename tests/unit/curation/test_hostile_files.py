"""Files made to harm: whatever they expand to, they cost a bounded time and memory, and a bad record only itself."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from curation.errors import InputError
from curation.formats import Ingested, ingest

GOOD = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
MAX_PEAK_BYTES = 900 * 2**20
"""Of a process that reads all of the files, one after the other; its libraries alone take 150 MB."""


def record(more: str) -> bytes:
    """A good record with a member that is not."""
    return GOOD.rstrip()[:-1] + b"," + more.encode() + b"}\n"


def columns(first: str) -> bytes:
    names = first + ",".join(f"c{n}" for n in range(1_000_000))
    return f"{names}\n{'x,' * 1_000_000}\n".encode()


def wide_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({f"c{n}": [1] for n in range(6_000)}), sink)
    return sink.getvalue().to_pybytes()


HARMFUL: dict[str, tuple[Callable[[], bytes], str | tuple[int, int]]] = {
    "zeros in gzip": (lambda: gzip.compress(bytes(200_000_000)), "binary"),
    "zeros in zstd": (lambda: zstandard.compress(bytes(400_000_000)), "binary"),
    "rows in gzip": (lambda: gzip.compress(GOOD * 3_000_000), "expands to more than"),
    "gzip in gzip": (lambda: gzip.compress(gzip.compress(bytes(200_000_000))), "binary"),
    "ten thousand members": (lambda: gzip.compress(GOOD) * 10_000, (10_000, 0)),
    "a million columns": (lambda: columns(""), "columns, at most"),
    "a million columns beside ours": (lambda: columns("conversation_id,role,content,"), "columns, at most"),
    "Parquet of many columns": (wide_parquet, "columns, at most"),
    "no Parquet": (lambda: b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1", "cannot be read"),
    "a million brackets": (lambda: b"[" * 1_000_000, (0, 1)),
    "half a million brackets in a record": (lambda: GOOD + b'{"messages":' + b'[{"a":' * 500_000 + b"\n" + GOOD, (2, 1)),
    "an object that never ends": (lambda: b'{"messages":' * 200_000, (0, 1)),
    "a deep member": (lambda: record('"meta":{"a":' + "[" * 400 + "]" * 400 + "}") + GOOD, (1, 1)),
    "a hundred thousand members": (
        lambda: record(",".join(f'"k{n}":1' for n in range(100_000))), (1, 0),
    ),
    "a number of a million digits": (lambda: record('"id":' + "9" * 1_000_000) + GOOD, (1, 1)),
    "an id of five megabytes": (lambda: record('"id":"' + "i" * 5_000_000 + '"') + GOOD, (1, 1)),
    "a line that never ends": (lambda: b"a" * 100_000_000, (0, 1)),
    "a quote that never ends": (
        lambda: b'conversation_id,role,content\n1,user,hi\n2,user,"' + b"x\n" * 50_000, (1, 50_000),
    ),
}  # fmt: skip
CHILD = """
import json, sys, time
from pathlib import Path
from curation.errors import InputError
from curation.formats import ingest
for path in map(Path, sys.argv[1:]):
    started = time.process_time()
    try:
        found = ingest(path, path.with_suffix(".out"), sha256="0" * 64)
        told = [found.conversations, found.quarantined]
    except InputError as error:
        told = str(error)
    # Not getrusage's, which begins with what the parent had when it started this process.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps([told, time.process_time() - started, peak]), flush=True)
"""


def test_files_made_to_harm_cost_little(tmp_path: Path) -> None:
    paths = []
    for number, (make, _) in enumerate(HARMFUL.values()):
        paths.append(tmp_path / f"{number}.data")
        paths[-1].write_bytes(make())
    child = subprocess.run([sys.executable, "-c", CHILD, *map(str, paths)], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in child.stdout.splitlines()]
    for (name, (_, expected)), (told, cpu_s, peak_bytes) in zip(HARMFUL.items(), found, strict=True):
        if isinstance(expected, str):
            assert expected in told, name
        else:
            assert tuple(told) == expected, name
        assert cpu_s < 10, name
        assert peak_bytes < MAX_PEAK_BYTES, name


def ingested(content: bytes, folder: Path) -> Ingested:
    path = folder / "given"
    path.write_bytes(content)
    return ingest(path, folder / "out", sha256="0" * 64)


def test_a_deep_member_is_told_as_what_it_is(tmp_path: Path) -> None:
    found = ingested(HARMFUL["a deep member"][0](), tmp_path)
    assert pl.read_parquet(found.quarantine).to_dicts() == [
        {"line": 1, "reason": "`user` and `meta` must not be nested more than 250 deep"}
    ]


def test_a_quarantine_in_many_parts_keeps_the_order_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.formats.QUARANTINED_AT_ONCE", 3)
    table = "instruction,output\n" + "".join(f"q{',' * (n % 2)},a\n" for n in range(100))
    found = ingested(table.encode(), tmp_path)
    lines = pl.read_parquet(found.quarantine)["line"].to_list()
    assert lines == list(range(3, 102, 2))
    assert found.quarantined == 50


def test_several_columns_of_one_name_are_refused_with_the_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'role'"):
        ingested(b"conversation_id,role,role,content\n1,user,user,hi\n", tmp_path)
