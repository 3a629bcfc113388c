"""The token cache: the same rows whoever makes them and however often, never stale, never damaged unseen."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import ConfigError, TrainConfig, parse_config
from trainer.data import token_cache
from trainer.data.vectorising import vectorise
from trainer.data.vectors import Vectors, read_rows, read_samples
from trainer.data.version import DatasetVersion, open_version
from trainer.dialogues import Lengths, encode_window, make_windows
from trainer.records import TrainingError


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> DatasetVersion:
    """The examples four times over, in several segments."""
    folder = tmp_path_factory.mktemp("version")
    many = folder / "many.jsonl"
    lines = (examples / "dialogues.jsonl").read_bytes().splitlines()
    said = [json.loads(line) for _ in range(4) for line in lines if b'"messages"' in line]
    many.write_text("".join(json.dumps({"messages": one["messages"]}, ensure_ascii=False) + "\n" for one in said))
    recipe = parse_recipe({"operators": [{"kind": "structure_dialogue"}]})
    curate([many], folder, recipe=recipe, as_of=date(2026, 11, 1), segment_bytes=200_000)
    made = open_version(str(folder / "manifest.json"))
    assert len(made.manifest["segments"]) > 2
    return made


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return load_chat_tokenizer("deepseek")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.version.PART_ROWS", 100)


def config(cache: Path, **data: Any) -> TrainConfig:
    settings = {"version": "m", "cache_dir": str(cache), "max_source_length": 200, "max_target_length": 100, **data}
    return parse_config({"model": {"scratch": {"preset": "tiny"}}, "data": settings})


def rows_of(made: Vectors) -> list[tuple[Any, ...]]:
    return [
        (row.ids.tolist(), row.is_target.tolist(), row.lengths.tolist(), row.num_targets)
        for segment in (*made.train, *made.validation)
        for row in read_rows(made, segment)
    ]


def test_processes_and_interruptions_change_nothing(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    alone = vectorise(version, chat, config(tmp_path / "a"), on_progress=lambda *done: told.append(done))
    total = sum(segment["rows"] for segment in version.manifest["segments"])
    assert told[-1] == (total, total)
    assert told == sorted(told)
    together = vectorise(version, chat, config(tmp_path / "b"), processes=2)
    assert not alone.reused and not together.reused
    assert rows_of(together) == rows_of(alone)
    assert sum(segment.target_tokens for segment in (*alone.train, *alone.validation)) == sum(
        sum(mask) for _, mask, _, _ in rows_of(alone)
    )
    again = vectorise(version, chat, config(tmp_path / "a"))
    assert again.reused
    assert rows_of(again) == rows_of(alone)


@pytest.mark.parametrize(
    ("change", "makes_tokens"),
    [
        ({"max_source_length": 201}, True),
        ({"max_target_length": 101}, True),
        ({"min_history_ratio": 0.6}, True),
        ({"targets": "last"}, True),
        ({"validation_share": 0.1}, False),
        ({"segment_tokens": 5_000}, False),
    ],
)
def test_what_could_change_a_row_makes_it_anew(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path, change: dict[str, Any], makes_tokens: bool
) -> None:
    first = vectorise(version, chat, config(tmp_path))
    other = vectorise(version, chat, config(tmp_path, **change))
    assert other.folder != first.folder
    assert (other.facts["files_made"] > 0) == makes_tokens
    assert vectorise(version, chat, config(tmp_path)).reused


def test_another_tokenizer_template_or_code_makes_other_files(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = config(tmp_path).data
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    folders = {
        token_cache.token_folder(tmp_path, chat, data),
        token_cache.token_folder(tmp_path, ChatTokenizer("x", chat.tokenizer.to_str(), chat.config, template), data),
        token_cache.token_folder(tmp_path, ChatTokenizer("x", chat.tokenizer.to_str(), {}, chat.template), data),
    }
    for name in ("CODE_VERSION", "DIALOGUES_VERSION"):
        monkeypatch.setattr(token_cache, name, 999)
        folders.add(token_cache.token_folder(tmp_path, chat, data))
    assert len(folders) == 5


def _spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_spoil, lambda path: os.truncate(path, 100), Path.unlink], ids=["bit", "cut", "gone"])
def test_a_damaged_file_is_found_and_made_anew(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    first = vectorise(version, chat, config(tmp_path))
    rows = rows_of(first)
    harm(first.token_folder / first.pieces[1].path)
    with pytest.raises(TrainingError, match="next run makes it anew"):
        rows_of(first)
    mended = vectorise(version, chat, config(tmp_path))
    assert (mended.facts["files_made"], mended.reused) == (1, False)
    assert rows_of(mended) == rows

    harm(mended.folder / mended.train[0].path)
    with pytest.raises(TrainingError, match="next run makes it anew"):
        rows_of(mended)
    assert rows_of(vectorise(version, chat, config(tmp_path))) == rows


def test_work_that_was_killed_goes_on_where_it_was(
    version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path
) -> None:
    settings = config(tmp_path / "cache")
    (tmp_path / "config.json").write_text(settings.model_dump_json())
    slow = (
        "import sys, time, trainer.data.version, trainer.data.token_cache as cache\n"
        "from pathlib import Path\nfrom trainer.config import load_config\n"
        "from trainer.chat_tokenizer import load_chat_tokenizer\nfrom trainer.data.vectorising import vectorise\n"
        "trainer.data.version.PART_ROWS = 100\n"
        "vectorise(trainer.data.version.open_version(sys.argv[1]), load_chat_tokenizer('deepseek'), "
        "load_config(Path(sys.argv[2])), on_progress=lambda *_: time.sleep(0.3))\n"
    )
    manifest = str(version.folder / "manifest.json")
    process = subprocess.Popen([sys.executable, "-c", slow, manifest, str(tmp_path / "config.json")])
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "cache").glob("*/*.json"))) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made_before = len(list((tmp_path / "cache").glob("*/*.json")))
    done = vectorise(version, chat, settings)
    assert 0 < done.facts["files_made"] <= len(done.pieces) - made_before + 1
    assert rows_of(done) == rows_of(vectorise(version, chat, config(tmp_path / "other")))


def test_a_damaged_version_is_refused(version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(version.folder, copy)
    _spoil(copy / version.manifest["segments"][0]["path"])
    with pytest.raises(ConfigError, match="not what the manifest"):
        vectorise(open_version(str(copy / "manifest.json")), chat, config(tmp_path))


def test_replies_stay_whole_and_users_on_one_side(version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path) -> None:
    made = vectorise(version, chat, config(tmp_path))
    for ids, mask, lengths, _ in rows_of(made):
        assert sum(lengths) == len(ids) == len(mask) <= 300
    held_out = sum(segment.tokens for segment in made.validation)
    assert 0 < held_out < sum(segment.tokens for segment in made.train)


def test_samples_are_named_by_what_stands_in_them(version: DatasetVersion, chat: ChatTokenizer, tmp_path: Path) -> None:
    """Each sample's tokens are those of a window of the row of the version, and of the conversation, that it names."""
    settings = config(tmp_path, max_source_length=60, max_target_length=40)
    made = vectorise(version, chat, settings)
    lengths = Lengths(60, 40)
    said = {row.id: row for row in version.conversations()}
    for segment in made.validation:
        for row, names in zip(read_rows(made, segment), read_samples(made, segment), strict=True):
            parts = np.split(row.ids, np.cumsum(row.lengths)[:-1])
            for ids, (name, conversation) in zip(parts, names, strict=True):
                windows = make_windows(chat, said[name].messages, lengths)
                assert ids.tolist() in [encode_window(chat, window.messages, 40).ids for window in windows]
                assert conversation == said[name].conversation_id
