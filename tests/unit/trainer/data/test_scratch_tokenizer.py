"""The tokenizer of a model from scratch: trained once for a version and a size, from a bounded part of its text."""

import random
from pathlib import Path

import pytest
from made_talks import make_version, talk

from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.data import scratch_tokenizer as module
from trainer.data.scratch_tokenizer import FINGERPRINT, scratch_tokenizer
from trainer.data.version import DatasetVersion


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    rng = random.Random(1)
    lines = [talk(f"t{number}", seed=rng.randrange(12)) for number in range(60)]
    return make_version(tmp_path_factory.mktemp("made") / "v", lines, segment_bytes=15_000)


def folders(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


def test_it_is_trained_once_for_each_size(version: DatasetVersion, tmp_path: Path) -> None:
    made = scratch_tokenizer(version, 600, tmp_path)
    (folder,) = folders(tmp_path)
    written = (folder / "tokenizer.json").stat().st_mtime_ns
    assert scratch_tokenizer(version, 600, tmp_path).fingerprint == made.fingerprint
    assert (folder / "tokenizer.json").stat().st_mtime_ns == written
    assert scratch_tokenizer(version, 500, tmp_path).vocab_size < made.vocab_size
    assert len(folders(tmp_path)) == 2
    made.save(tmp_path / "run")
    assert load_chat_tokenizer(str(tmp_path / "run")).fingerprint == made.fingerprint


@pytest.mark.parametrize("name", ["tokenizer.json", FINGERPRINT])
def test_one_that_was_damaged_is_trained_again(version: DatasetVersion, tmp_path: Path, name: str) -> None:
    made = scratch_tokenizer(version, 600, tmp_path)
    (folder,) = folders(tmp_path)
    before = (folder / "tokenizer.json").read_bytes()
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    load_chat_tokenizer.cache_clear()
    assert scratch_tokenizer(version, 600, tmp_path).fingerprint == made.fingerprint
    assert folders(tmp_path) == [folder]
    assert (folder / "tokenizer.json").read_bytes() == before


def test_it_reads_rows_evenly_up_to_a_bound(
    version: DatasetVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list(version.texts(max_chars=10**9))
    assert every == [message["content"] for row in version.conversations() for message in row.messages]
    chars = sum(map(len, every))
    half = list(version.texts(max_chars=(chars + 1) // 2))
    assert half == [message["content"] for row in list(version.conversations())[::2] for message in row.messages]
    whole = scratch_tokenizer(version, 600, tmp_path)
    monkeypatch.setattr(module, "MAX_CHARS", chars // 5)
    assert scratch_tokenizer(version, 600, tmp_path).fingerprint != whole.fingerprint
