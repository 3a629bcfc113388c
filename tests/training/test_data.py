"""The data of real runs: the same order after any death on any number of ranks, caches that are shared and mended."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_talks import make_version, talk

from trainer.data.version import DatasetVersion

CONFIG: dict[str, Any] = {
    "model": {"scratch": {"preset": "tiny", "hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1,
                          "vocab_size": 600}},
    "batch": {"tokens": 4_000},
    "optim": {"peak_lr": 1e-3},
    "run": {"max_steps": 15},
    "checkpoint": {"every_steps": 3},
    "evaluate": {"bleu_samples": 0},
}  # fmt: skip
TALKS = 240


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetVersion, DatasetVersion]:
    """A version to learn, and one to mix in."""
    folder = tmp_path_factory.mktemp("versions")
    main = make_version(folder / "main", [talk(f"t{number}") for number in range(TALKS)], segment_bytes=20_000)
    return main, make_version(folder / "other", [talk(f"other-{number}") for number in range(60)])


def write_config(folder: Path, versions: tuple[DatasetVersion, DatasetVersion], cache: Path) -> None:
    main, other = (str(version.folder / "manifest.json") for version in versions)
    data = {
        "version": main, "mix": [{"version": other, "weight": 0.25}], "cache_dir": str(cache), "segment_tokens": 6_000,
        "max_source_length": 450, "max_target_length": 50, "validation_share": 0.02,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "data": data}))


def start(folder: Path, nproc: int = 1, before: Callable[[], None] | None = None) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run"),
        "--nproc", str(nproc),
    ]  # fmt: skip
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=before)  # noqa: PLW1509


def finish(folder: Path, nproc: int = 1) -> list[dict[str, Any]]:
    """Runs to the end; the lines of its metrics."""
    assert start(folder, nproc).wait(300) == 0, (folder / "log").read_text()[-2000:]
    return metrics(folder)


def metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "run" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def events(folder: Path, message: str) -> list[dict[str, Any]]:
    lines = (folder / "run" / "events.jsonl").read_text().splitlines()
    return [told["data"] for told in map(json.loads, lines) if told["message"] == message]


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, versions: tuple[DatasetVersion, DatasetVersion]
) -> tuple[Path, list[dict[str, Any]]]:
    """A run that nothing disturbed, and its cache."""
    folder = tmp_path_factory.mktemp("whole")
    write_config(folder / "job", versions, folder / "cache")
    return folder / "cache", finish(folder / "job")


def test_killed_on_one_rank_on_two_and_finished_on_three_it_takes_the_same_rows(
    tmp_path: Path, versions: tuple[DatasetVersion, DatasetVersion], whole: tuple[Path, list[dict[str, Any]]]
) -> None:
    cache, wanted = whole
    write_config(tmp_path / "job", versions, cache)
    for nproc, step in ((1, 5), (2, 9)):
        run = start(tmp_path / "job", nproc)
        deadline = time.monotonic() + 200
        while len(metrics(tmp_path / "job")) < step:
            assert time.monotonic() < deadline and run.poll() is None, (tmp_path / "job/log").read_text()[-2000:]
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
    found = finish(tmp_path / "job", 3)
    told = ("step", "segment", "tokens", "total_tokens")
    assert [[line[name] for name in told] for line in found] == [[line[name] for name in told] for line in wanted]
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in wanted], abs=2e-3)
    assert {name for line in found for name in line["sources"]} == {"version", "version#1"}
    assert events(tmp_path / "job", "token vectors made") == []


def test_two_runs_may_fill_one_cache_at_once(
    tmp_path: Path, versions: tuple[DatasetVersion, DatasetVersion], whole: tuple[Path, list[dict[str, Any]]]
) -> None:
    cache = tmp_path / "cache"
    for name in ("a", "b"):
        write_config(tmp_path / name, versions, cache)
    runs = [start(tmp_path / name) for name in ("a", "b")]
    assert [run.wait(300) for run in runs] == [0, 0]
    losses = [line["loss"] for line in whole[1]]
    for name in ("a", "b"):
        assert [line["loss"] for line in metrics(tmp_path / name)] == pytest.approx(losses, abs=1e-5)
    assert not list(cache.glob("**/.*"))


def test_a_damaged_cache_is_found_and_mended_between_two_runs(
    tmp_path: Path, versions: tuple[DatasetVersion, DatasetVersion], whole: tuple[Path, list[dict[str, Any]]]
) -> None:
    cache, wanted = whole
    piece = max(cache.glob("*/*.arrow"), key=lambda path: path.stat().st_size)
    before = piece.read_bytes()
    spoilt = bytearray(before)
    spoilt[len(spoilt) // 2] ^= 0xFF
    piece.write_bytes(spoilt)
    write_config(tmp_path / "job", versions, cache)
    found = finish(tmp_path / "job")
    assert piece.read_bytes() == before
    (told,) = events(tmp_path / "job", "token vectors made")
    assert (told["files_made"], told["files_damaged"]) == (1, 1)
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in wanted], abs=1e-5)


def test_a_full_disk_fails_the_run_with_the_reason_and_leaves_nothing_behind(
    tmp_path: Path, versions: tuple[DatasetVersion, DatasetVersion]
) -> None:
    """A limit on the size of files stands for the disk: what is written beyond it fails in the same way."""
    cache = tmp_path / "cache"
    write_config(tmp_path / "job", versions, cache)
    run = start(tmp_path / "job", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)))
    assert run.wait(100) == 1
    result = json.loads((tmp_path / "job/run/result.json").read_text())
    assert result["status"] == "failed"
    assert "File too large" in result["error"]
    assert not list(cache.glob("*/.*"))
    assert len(finish(tmp_path / "job")) == CONFIG["run"]["max_steps"]
