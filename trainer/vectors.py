"""Token vectors: conversations are tokenised and packed once, and memory-mapped ever after.

The cache key covers the data's digest, the tokenizer's bytes, the template, the lengths and this code's version: what
could change a token changes the key. A segment holds about `segment_tokens` tokens of packed rows.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainer.config import MAX_SEGMENT_TOKENS, TrainConfig
from trainer.dialogues import ChatTokenizer, DialogueError, EncodedRow, Lengths, encode_window, make_windows
from trainer.packing import pack
from trainer.version import Conversation, DatasetVersion

CODE_VERSION = 1
"""Raised with every change of what rows come out."""
MIN_SEGMENT_TOKENS = 65_536
SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),
        ("is_target", pa.list_(pa.bool_())),
        ("lengths", pa.list_(pa.int32())),
        ("num_targets", pa.int32()),
    ]
)
"""A packed row: tokens, which of them are learned, and the length of each sample in it."""


@dataclass(frozen=True)
class Segment:
    """A file of packed rows."""

    path: str
    rows: int
    tokens: int
    target_tokens: int


@dataclass(frozen=True)
class Vectors:
    """A version's rows for training and for validation."""

    folder: Path
    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """Counts of samples, windows, cuts and conversations left out."""
    reused: bool = False

    @property
    def num_rows(self) -> int:
        """Packed rows of one epoch."""
        return sum(segment.rows for segment in self.train)

    @property
    def sample_tokens(self) -> float:
        """Mean length of a sample."""
        tokens = sum(segment.tokens for segment in (*self.train, *self.validation))
        return tokens / max(1, self.facts["samples"])


@dataclass(frozen=True)
class PackedRow:
    """Samples side by side in one row."""

    ids: np.ndarray
    is_target: np.ndarray
    lengths: np.ndarray
    num_targets: int


def vectorise(
    version: DatasetVersion, chat: ChatTokenizer, config: TrainConfig, on_progress: Callable[[int], None] | None = None
) -> Vectors:
    """Makes a version's token vectors, or finds those made before.

    `on_progress` is told how many conversations are done, now and then.
    """
    root = Path(config.data.cache_dir) if config.data.cache_dir else version.folder / "vectors"
    key = _key(version, chat, config)
    folder = root / key
    if (folder / "index.json").exists():
        return _open(folder, reused=True)
    temporary = root / f".{key}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    held_out = _held_out_groups(version, config)
    writers = {split: _Writer(temporary, split, config, version) for split in ("train", "validation")}
    facts = dict.fromkeys(("conversations", "windows", "samples", "cuts", "without_target", "refused"), 0)
    for done, conversation in enumerate(version.conversations(), 1):
        split = "validation" if conversation.group in held_out else "train"
        for row in _samples(conversation, chat, config, facts):
            writers[split].add(row)
        if on_progress is not None and done % 1000 == 0:
            on_progress(done)
    segments = {split: [asdict(segment) for segment in writer.close()] for split, writer in writers.items()}
    (temporary / "index.json").write_text(json.dumps({**segments, "facts": facts}))
    if folder.exists():
        shutil.rmtree(temporary)
    else:
        temporary.rename(folder)
    return _open(folder, reused=False)


def read_rows(folder: Path, segment: Segment) -> Iterator[PackedRow]:
    """A segment's rows, memory-mapped."""
    with pa.memory_map(str(folder / segment.path)) as source:
        table = pa.ipc.open_file(source).read_all()
        for index in range(table.num_rows):
            yield PackedRow(
                np.array(table["ids"][index].values),
                table["is_target"][index].values.to_numpy(zero_copy_only=False),
                np.array(table["lengths"][index].values),
                table["num_targets"][index].as_py(),
            )


def _open(folder: Path, *, reused: bool) -> Vectors:
    index = json.loads((folder / "index.json").read_text())
    train, validation = (tuple(Segment(**s) for s in index[split]) for split in ("train", "validation"))
    return Vectors(folder, train, validation, index["facts"], reused)


def _key(version: DatasetVersion, chat: ChatTokenizer, config: TrainConfig) -> str:
    data = config.data.model_dump(exclude={"version", "cache_dir"})
    parts = [CODE_VERSION, version.digest, chat.fingerprint, data, config.run.seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _held_out_groups(version: DatasetVersion, config: TrainConfig) -> set[str]:
    """Groups of the validation split: chosen by ids and seed only, so that other lengths share it."""
    if config.data.validation_share == 0:
        return set()
    sizes: dict[str, int] = {}
    for conversation in version.conversations():
        sizes[conversation.group] = sizes.get(conversation.group, 0) + 1
    total = sum(sizes.values())
    wanted = min(max(20, round(config.data.validation_share * total)), 2000, total // 5)
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{config.run.seed}:{group}".encode()).digest())
    chosen: set[str] = set()
    count = 0
    for group in order:
        if count >= wanted:
            break
        chosen.add(group)
        count += sizes[group]
    return chosen


def _samples(
    conversation: Conversation, chat: ChatTokenizer, config: TrainConfig, facts: dict[str, int]
) -> Iterable[EncodedRow]:
    lengths = Lengths(config.data.max_source_length, config.data.max_target_length, config.data.min_history_ratio)
    facts["conversations"] += 1
    try:
        windows = make_windows(chat, conversation.messages, lengths, targets=config.data.targets)
        rows = [encode_window(chat, w.messages, lengths.max_target_length, w.cut_replies) for w in windows]
    except DialogueError:
        facts["refused"] += 1
        return
    facts["windows"] += len(windows)
    facts["cuts"] += sum(len(window.cuts) for window in windows)
    for row in rows:
        if any(row.is_target):
            facts["samples"] += 1
            yield row
        else:
            facts["without_target"] += 1


class _Writer:
    """Collects samples until a segment is full, packs them and writes them."""

    def __init__(self, folder: Path, split: str, config: TrainConfig, version: DatasetVersion) -> None:
        self._folder, self._split, self._capacity = folder, split, config.row_tokens
        size = sum(segment["bytes"] for segment in version.manifest["segments"])
        auto = min(MAX_SEGMENT_TOKENS, max(MIN_SEGMENT_TOKENS, size // 64))
        self._segment_tokens = auto if config.data.segment_tokens == "auto" else config.data.segment_tokens
        self._samples: list[EncodedRow] = []
        self._tokens = 0
        self._segments: list[Segment] = []

    def add(self, row: EncodedRow) -> None:
        assert len(row.ids) <= self._capacity
        self._samples.append(row)
        self._tokens += len(row.ids)
        if self._tokens >= self._segment_tokens:
            self._flush()

    def close(self) -> list[Segment]:
        if self._samples:
            self._flush()
        return self._segments

    def _flush(self) -> None:
        rows = pack([len(sample.ids) for sample in self._samples], self._capacity)
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        for row in rows:
            samples = [self._samples[index] for index in row]
            columns["ids"].append([token for sample in samples for token in sample.ids])
            columns["is_target"].append([flag for sample in samples for flag in sample.is_target])
            columns["lengths"].append([len(sample.ids) for sample in samples])
            columns["num_targets"].append(sum(sum(sample.is_target) for sample in samples))
        path = f"{self._split}-{len(self._segments):05d}.arrow"
        table = pa.table(columns, schema=SCHEMA)
        with pa.OSFile(str(self._folder / path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(table)
        self._segments.append(Segment(path, len(rows), self._tokens, sum(columns["num_targets"])))
        self._samples, self._tokens = [], 0
