"""Token vectors: a version's samples split for validation, cut into segments and packed into rows.

The tokens themselves lie in the token cache; here is only an index, which says where each segment's samples are. A segment
is a run of samples of about `segment_tokens` tokens, what one process holds at once. Its rows are packed when it is
opened: packing is deterministic, and fast beside training on what was packed.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import MAX_SEGMENT_TOKENS, TrainConfig
from trainer.packing import pack
from trainer.records import TrainingError
from trainer.splitting import Holdout, choose_holdout
from trainer.token_cache import CODE_VERSION, Piece, Tokenised, appear, token_folder, tokenise
from trainer.version import DatasetVersion

MIN_SEGMENT_TOKENS = 65_536
"""Smaller segments would hold too few samples to fill rows well."""
SEGMENTS_WANTED = 64
Split = Literal["train", "validation"]


@dataclass(frozen=True)
class Segment:
    """A run of samples that are packed together."""

    name: str
    split: Split
    start: int
    """The first sample's place among all of the version's samples; samples of the other split in between are left out."""
    stop: int
    samples: int
    rows: int
    tokens: int
    target_tokens: int


@dataclass(frozen=True)
class Vectors:
    """A version's rows for training and for validation."""

    folder: Path
    pieces: tuple[Piece, ...]
    holdout: Holdout
    row_tokens: int
    packing: bool
    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """Counts of samples, windows, cuts and conversations left out, and the reasons of some of those."""

    @property
    def num_rows(self) -> int:
        """Packed rows of one epoch."""
        return sum(segment.rows for segment in self.train)

    @property
    def sample_tokens(self) -> float:
        """Mean length of a sample."""
        tokens = sum(segment.tokens for segment in (*self.train, *self.validation))
        return tokens / max(1, self.facts["samples"])

    def fill(self, segments: Sequence[Segment]) -> float | None:
        """Share of the segments' rows that is tokens; the rest is padding."""
        rows = sum(segment.rows for segment in segments)
        return round(sum(segment.tokens for segment in segments) / (rows * self.row_tokens), 4) if rows else None


@dataclass(frozen=True)
class PackedRow:
    """Samples side by side in one row."""

    ids: np.ndarray
    is_target: np.ndarray
    lengths: np.ndarray
    records: tuple[str, ...]
    """The version's row that each sample is from."""


class OpenSegment:
    """A segment's rows. Tokens stay in the memory-mapped cache until a row is asked for."""

    def __init__(self, vectors: Vectors, segment: Segment) -> None:
        """Raises TrainingError where a file of the cache was damaged."""
        ends = list(accumulate(piece.samples for piece in vectors.pieces))
        first = bisect_right(ends, segment.start)
        places, lengths, targets = [], [], []
        self._batches: dict[int, pa.RecordBatch] = {}
        for index in range(first, len(vectors.pieces)):
            begin = ends[index] - vectors.pieces[index].samples
            if begin >= segment.stop:
                break
            batch = self._batches[index] = vectors.pieces[index].open(vectors.folder)
            rows = np.arange(max(0, segment.start - begin), min(batch.num_rows, segment.stop - begin))
            rows = rows[vectors.holdout.holds(batch["group"].to_numpy()[rows]) == (segment.split == "validation")]
            places.append(np.stack([np.full(len(rows), index), rows], 1))
            lengths.append(np.diff(batch["ids"].offsets.to_numpy())[rows])
            targets.append(batch["num_targets"].to_numpy()[rows])
        self._places = np.concatenate(places)
        sizes = np.concatenate(lengths)
        self._rows = arrange(sizes.tolist(), vectors.row_tokens, packing=vectors.packing)
        self.tokens = [int(sizes[row].sum()) for row in self._rows]
        """Of each row."""
        num_targets = np.concatenate(targets)
        self.target_tokens = [int(num_targets[row].sum()) for row in self._rows]
        """Of each row."""

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> PackedRow:
        """A row's tokens, copied."""
        ids, masks, records = [], [], []
        for piece, sample in self._places[self._rows[index]].tolist():
            batch = self._batches[piece]
            ids.append(batch["ids"][sample].values.to_numpy())
            masks.append(batch["is_target"][sample].values.to_numpy(zero_copy_only=False))
            records.append(batch["id"][sample].as_py())
        lengths = np.array([len(part) for part in ids])
        return PackedRow(np.concatenate(ids), np.concatenate(masks), lengths, tuple(records))


def arrange(lengths: Sequence[int], row_tokens: int, *, packing: bool) -> list[list[int]]:
    """Indices of the samples of each row."""
    return pack(lengths, row_tokens) if packing else [[index] for index in range(len(lengths))]


def vectorise(
    version: DatasetVersion,
    chat: ChatTokenizer,
    config: TrainConfig,
    *,
    processes: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Vectors, Tokenised]:
    """Makes a version's token vectors, or finds those made before; what is damaged is made anew.

    Raises:
        ConfigError: the version is damaged.
        TrainingError: a process that tokenised was killed.
    """
    tokenised = tokenise(
        version, chat, config.data, cache_root(version, config), processes=processes, on_progress=on_progress
    )
    tokens = sum(piece.tokens for piece in tokenised.pieces)
    path = _index_path(version, chat, config, segment_tokens(config, tokens))
    found = _read_index(path)
    if found is None or found.pieces != tokenised.pieces:
        found = _make_index(version, config, tokenised)
        appear(path, json.dumps(asdict(found), default=str, ensure_ascii=False).encode())
    return found, tokenised


def open_vectors(version: DatasetVersion, chat: ChatTokenizer, config: TrainConfig) -> Vectors:
    """The vectors that the launcher has made; `config` is resolved.

    Raises:
        TrainingError: they are gone.
    """
    path = _index_path(version, chat, config, segment_tokens(config, 0))
    found = _read_index(path)
    if found is None:
        raise TrainingError(f"the token cache has lost {path}; the next run makes it anew")
    return found


def cache_root(version: DatasetVersion, config: TrainConfig) -> Path:
    """Where a run's token cache lies."""
    return Path(config.data.cache_dir) if config.data.cache_dir else version.folder / "vectors"


def segment_tokens(config: TrainConfig, tokens: int) -> int:
    """`data.segment_tokens`, resolved for data of so many tokens."""
    if config.data.segment_tokens != "auto":
        return config.data.segment_tokens
    return min(MAX_SEGMENT_TOKENS, max(MIN_SEGMENT_TOKENS, tokens // SEGMENTS_WANTED))


def _index_path(version: DatasetVersion, chat: ChatTokenizer, config: TrainConfig, segment_size: int) -> Path:
    content = [(segment["sha256"], segment["rows"]) for segment in version.manifest["segments"]]
    settings = [segment_size, config.data.packing, config.data.validation_share, config.run.seed]
    key = hashlib.sha256(json.dumps([CODE_VERSION, version.digest, content, settings]).encode()).hexdigest()[:32]
    return token_folder(cache_root(version, config), chat, config.data) / f"index-{key}.json"


def _read_index(path: Path) -> Vectors | None:
    try:
        found = json.loads(path.read_text("utf-8"))
        return Vectors(
            **{
                **found,
                "folder": path.parent,
                "pieces": tuple(Piece(**piece) for piece in found["pieces"]),
                "holdout": Holdout(**found["holdout"]),
                "train": tuple(Segment(**segment) for segment in found["train"]),
                "validation": tuple(Segment(**segment) for segment in found["validation"]),
            }
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _make_index(version: DatasetVersion, config: TrainConfig, tokenised: Tokenised) -> Vectors:
    holdout = choose_holdout(version, config.data.validation_share, config.run.seed)
    size = segment_tokens(config, sum(piece.tokens for piece in tokenised.pieces))
    splits: dict[Split, list[Segment]] = {"train": [], "validation": []}
    cutters = {split: _Cutter(split, size, config) for split in splits}
    base = 0
    for piece in tokenised.pieces:
        batch = piece.open(tokenised.folder)
        lengths, targets = np.diff(batch["ids"].offsets.to_numpy()), batch["num_targets"].to_numpy()
        held = holdout.holds(batch["group"].to_numpy())
        for split, cutter in cutters.items():
            rows = np.flatnonzero(held == (split == "validation"))
            splits[split] += cutter.add(base + rows, lengths[rows], targets[rows])
        base += piece.samples
    for split, cutter in cutters.items():
        splits[split] += cutter.close()
    return Vectors(
        tokenised.folder,
        tokenised.pieces,
        holdout,
        config.row_tokens,
        config.data.packing,
        tuple(splits["train"]),
        tuple(splits["validation"]),
        _facts(tokenised.pieces),
    )


def _facts(pieces: Sequence[Piece]) -> dict[str, Any]:
    facts: dict[str, Any] = {"samples": sum(piece.samples for piece in pieces)}
    for name in pieces[0].counts if pieces else ():
        facts[name] = sum(piece.counts[name] for piece in pieces)
    refusals = {record: reason for piece in pieces for record, reason in piece.refusals.items()}
    return facts | {"refusals": dict(list(refusals.items())[:5])}


class _Cutter:
    """Cuts one split's samples, as they come, into segments."""

    def __init__(self, split: Split, size: int, config: TrainConfig) -> None:
        self._split, self._size, self._config = split, size, config
        self._places: list[int] = []
        self._lengths: list[int] = []
        self._targets = 0
        self._tokens = 0
        self._num_segments = 0

    def add(self, places: np.ndarray, lengths: np.ndarray, targets: np.ndarray) -> Iterator[Segment]:
        for place, length, target in zip(places.tolist(), lengths.tolist(), targets.tolist(), strict=True):
            self._places.append(place)
            self._lengths.append(length)
            self._targets += target
            self._tokens += length
            if self._tokens >= self._size:
                yield from self.close()

    def close(self) -> Iterator[Segment]:
        if not self._places:
            return
        rows = len(arrange(self._lengths, self._config.row_tokens, packing=self._config.data.packing))
        yield Segment(
            f"{self._split}-{self._num_segments:05d}", self._split, self._places[0], self._places[-1] + 1,
            len(self._places), rows, self._tokens, self._targets,
        )  # fmt: skip
        self._num_segments += 1
        self._places, self._lengths, self._targets, self._tokens = [], [], 0, 0
