"""Token vectors: what a run learns from, as rows packed with samples, in segments that are memory-mapped one by one.

A segment is a file of rows that say which samples of which file of the token cache stand in them. The launcher makes or
finds them (`trainer.data.vectorising`), compares all files with their checksums, and hands them over to the processes
that read them, with the stamps by which a file is known again without reading all of it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainer.checked_files import Stamp, is_whole
from trainer.data.pieces import Piece
from trainer.records import DamagedCacheError, TrainingError, write_json

FILE = "vectors.json"
"""In the run directory: what the launcher hands over."""
SCHEMA = pa.schema([("pieces", pa.list_(pa.int32())), ("samples", pa.list_(pa.int32())), ("num_targets", pa.int32())])
"""A packed row: of each sample in it, the file of the token cache and its place there; how many tokens are learned."""


@dataclass(frozen=True)
class Segment:
    """A file of packed rows, all of one source."""

    path: str
    source: int
    rows: int
    samples: int
    tokens: int
    target_tokens: int
    sha256: str


@dataclass(frozen=True)
class Vectors:
    """A run's rows for training and for validation."""

    folder: Path
    """Of the segments."""
    token_folder: Path
    pieces: tuple[Piece, ...]
    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    sources: tuple[str, ...]
    """Names of the versions that are learned: the main one, then those mixed in."""
    rows_an_epoch: tuple[int, ...]
    """Packed rows of each source in an epoch: all of the main version's."""
    segment_tokens: int
    stamps: dict[str, Stamp]
    """Of the files that had the right checksum when the run began."""
    facts: dict[str, Any]
    """Counts of samples, windows, cuts, conversations left out, and reasons for some of those."""
    reused: bool
    packs_steps: bool | None = None
    """Where rows for training are whole conversations, of any length: whether a step's samples are then packed, or get
    a row each; None where they are learned as they are."""

    @property
    def num_rows(self) -> int:
        """Packed rows of one epoch."""
        return sum(self.rows_an_epoch)

    @property
    def sample_tokens(self) -> float:
        """Mean length of a sample."""
        segments = (*self.train, *self.validation)
        return sum(segment.tokens for segment in segments) / max(1, sum(segment.samples for segment in segments))


@dataclass(frozen=True)
class PackedRow:
    """Samples side by side in one row."""

    ids: np.ndarray
    is_target: np.ndarray
    lengths: np.ndarray
    num_targets: int


class OpenSegment:
    """A segment's rows, memory-mapped, with the files of the cache that they need."""

    def __init__(self, vectors: Vectors, segment: Segment) -> None:
        """Raises DamagedCacheError where the file was damaged after the run began."""
        path = vectors.folder / segment.path
        if not is_whole(path, segment.sha256, vectors.stamps.get(segment.path)):
            raise DamagedCacheError(f"{path} is damaged; the next run makes it anew")
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        self._vectors = vectors
        self._ends = batch["samples"].offsets.to_numpy()
        self._pieces, self._samples = (batch[name].values.to_numpy() for name in ("pieces", "samples"))
        self._num_targets = batch["num_targets"].to_numpy()
        self._open: dict[int, _OpenPiece] = {}

    def __len__(self) -> int:
        return len(self._num_targets)

    def __getitem__(self, place: int) -> PackedRow:
        """Raises DamagedCacheError where a file of the cache was damaged after the run began."""
        parts = [piece.tokens(sample) for piece, sample in self._of_row(place)]
        return PackedRow(
            np.concatenate([ids for ids, _ in parts]),
            np.concatenate([mask for _, mask in parts]),
            np.array([len(ids) for ids, _ in parts]),
            int(self._num_targets[place]),
        )

    def names(self, place: int) -> list[tuple[str, str]]:
        """Of a row's samples, their rows in the version and these rows' conversations."""
        return [piece.name(sample) for piece, sample in self._of_row(place)]

    def _of_row(self, place: int) -> Iterator[tuple["_OpenPiece", int]]:
        where = slice(self._ends[place], self._ends[place + 1])
        for number, sample in zip(self._pieces[where].tolist(), self._samples[where].tolist(), strict=True):
            if number not in self._open:
                piece = self._vectors.pieces[number]
                batch = piece.open(self._vectors.token_folder, self._vectors.stamps.get(piece.path))
                self._open[number] = _OpenPiece(batch)
            yield self._open[number], sample


@dataclass(frozen=True)
class _OpenPiece:
    """A file of the token cache."""

    batch: pa.RecordBatch

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, pa.BooleanArray]:
        """Where samples end, all their tokens, and which of these are learned."""
        ids = self.batch["ids"]
        return ids.offsets.to_numpy(), ids.values.to_numpy(), self.batch["is_target"].values

    def tokens(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        ends, ids, is_target = self._columns
        start, end = int(ends[sample]), int(ends[sample + 1])
        return ids[start:end], is_target.slice(start, end - start).to_numpy(zero_copy_only=False)

    def name(self, sample: int) -> tuple[str, str]:
        return self.batch["id"][sample].as_py(), self.batch["conversation_id"][sample].as_py()


def read_rows(vectors: Vectors, segment: Segment) -> Iterator[PackedRow]:
    """A segment's rows, in order.

    Raises:
        DamagedCacheError: a file was damaged after the run began.
    """
    rows = OpenSegment(vectors, segment)
    return (rows[place] for place in range(len(rows)))


def read_samples(vectors: Vectors, segment: Segment) -> Iterator[list[tuple[str, str]]]:
    """Of each of a segment's packed rows, its samples' rows in the version and these rows' conversations.

    Raises:
        DamagedCacheError: a file was damaged after the run began.
    """
    rows = OpenSegment(vectors, segment)
    return (rows.names(place) for place in range(len(rows)))


def hand_over(vectors: Vectors, run_dir: Path) -> bool:
    """Tells the processes of a run what there is to read; False where the run began with other rows."""
    try:
        before = take_over(run_dir)
        is_same = (before.train, before.rows_an_epoch) == (vectors.train, vectors.rows_an_epoch)
    except TrainingError:
        is_same = not (run_dir / FILE).exists()
    paths = {"folder": str(vectors.folder), "token_folder": str(vectors.token_folder)}
    write_json(run_dir / FILE, {**asdict(vectors), **paths})
    return is_same


def take_over(run_dir: Path) -> Vectors:
    """What the launcher handed over.

    Raises:
        TrainingError: it has not, or another version of this software has.
    """
    try:
        told = json.loads((run_dir / FILE).read_text("utf-8"))
        return Vectors(
            **{
                **told,
                "folder": Path(told["folder"]),
                "token_folder": Path(told["token_folder"]),
                "pieces": tuple(Piece(**piece) for piece in told["pieces"]),
                "train": tuple(Segment(**segment) for segment in told["train"]),
                "validation": tuple(Segment(**segment) for segment in told["validation"]),
                "sources": tuple(told["sources"]),
                "rows_an_epoch": tuple(told["rows_an_epoch"]),
                "stamps": {path: tuple(stamp) for path, stamp in told["stamps"].items()},
            }
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{run_dir / FILE} cannot be read: {error}") from None
