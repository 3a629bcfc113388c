"""Token vectors: what a run learns from, as rows packed with samples, in segments that are memory-mapped one by one.

Samples come from the token cache; here they are split into training and validation and packed. A segment is a file of
rows that say which samples of which file of the cache stand in them, so other seeds and segment sizes cost no tokens.
The key covers all that could change a row: what could change a token is in the names of the cache's files.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import MAX_SEGMENT_TOKENS, TrainConfig
from trainer.packing import pack
from trainer.records import TrainingError
from trainer.token_cache import Piece, Tokenised, appear, group_hashes, tokenise
from trainer.version import DatasetVersion

CODE_VERSION = 2
"""Raised with every change of the rows that come out of the same samples."""
MIN_SEGMENT_TOKENS = 65_536
MIN_HELD_OUT, MAX_HELD_OUT, MAX_HELD_OUT_SHARE = 20, 2_000, 0.2
SPLITS = ("train", "validation")
SCHEMA = pa.schema([("pieces", pa.list_(pa.int32())), ("samples", pa.list_(pa.int32())), ("num_targets", pa.int32())])
"""A packed row: of each sample in it, the file of the token cache and its place there; how many tokens are learned."""


@dataclass(frozen=True)
class Segment:
    """A file of packed rows."""

    path: str
    rows: int
    tokens: int
    target_tokens: int
    sha256: str


@dataclass(frozen=True)
class Vectors:
    """A version's rows for training and for validation."""

    folder: Path
    """Of the segments."""
    token_folder: Path
    pieces: tuple[Piece, ...]
    train: tuple[Segment, ...]
    validation: tuple[Segment, ...]
    segment_tokens: int
    facts: dict[str, Any]
    """Counts of samples, windows, cuts, conversations left out, and reasons for some of those."""
    reused: bool

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


class _Sample(NamedTuple):
    piece: int
    place: int
    length: int
    num_targets: int


def vectorise(
    version: DatasetVersion,
    chat: ChatTokenizer,
    config: TrainConfig,
    *,
    processes: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Vectors:
    """Makes a version's token vectors, or finds those made before; what was cut short goes on where it was.

    `on_progress` hears how many rows of the version are tokenised, and of how many.

    Raises:
        ConfigError: a segment of the version is damaged.
        TrainingError: a process that tokenised was killed.
    """
    root = Path(config.data.cache_dir) if config.data.cache_dir else version.folder / "vectors"
    tokens = tokenise(version, chat, config.data, root, processes=processes, on_progress=on_progress)
    total = sum(piece.tokens for piece in tokens.pieces)
    auto = min(MAX_SEGMENT_TOKENS, max(MIN_SEGMENT_TOKENS, total // 64))
    segment_tokens = auto if config.data.segment_tokens == "auto" else config.data.segment_tokens
    folder = tokens.folder / f"rows-{_key(version, tokens, config, segment_tokens)}"
    index = _read_index(folder)
    reused = tokens.made == 0 and index is not None
    if index is None:
        index = _pack(version, tokens, config, segment_tokens, folder)
    train, validation = (tuple(Segment(**segment) for segment in index[split]) for split in SPLITS)
    facts = {**_facts(tokens.pieces), "files_made": tokens.made, "files_damaged": tokens.damaged}
    return Vectors(folder, tokens.folder, tokens.pieces, train, validation, segment_tokens, facts, reused)


def read_rows(vectors: Vectors, segment: Segment) -> Iterator[PackedRow]:
    """A segment's rows; of the token cache, the files that it needs are mapped.

    Raises:
        TrainingError: a file was damaged after the run began.
    """
    pieces: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for of_pieces, of_samples, num_targets in _read_segment(vectors, segment):
        parts = []
        for piece, sample in zip(of_pieces, of_samples, strict=True):
            if piece not in pieces:
                pieces[piece] = _arrays(vectors.pieces[piece].open(vectors.token_folder))
            ends, ids, is_target = pieces[piece]
            where = slice(ends[sample], ends[sample + 1])
            parts.append((ids[where], is_target[where]))
        yield PackedRow(
            np.concatenate([ids for ids, _ in parts]),
            np.concatenate([mask for _, mask in parts]),
            np.array([len(ids) for ids, _ in parts]),
            num_targets,
        )


def read_samples(vectors: Vectors, segment: Segment) -> Iterator[list[tuple[str, str]]]:
    """Of each of a segment's packed rows, its samples' rows in the version and these rows' conversations.

    Raises:
        TrainingError: a file was damaged after the run began.
    """
    pieces: dict[int, pa.RecordBatch] = {}
    for of_pieces, of_samples, _ in _read_segment(vectors, segment):
        names = []
        for piece, sample in zip(of_pieces, of_samples, strict=True):
            if piece not in pieces:
                pieces[piece] = vectors.pieces[piece].open(vectors.token_folder).select(["id", "conversation_id"])
            row, conversation = (column[sample].as_py() for column in pieces[piece].columns)
            names.append((row, conversation))
        yield names


def _read_segment(vectors: Vectors, segment: Segment) -> Iterator[tuple[list[int], list[int], int]]:
    """Of each packed row, its samples' files of the cache, their places there, and how many tokens are learned."""
    path = vectors.folder / segment.path
    if not _is_whole(path, segment.sha256):
        raise TrainingError(f"{path} is damaged; the next run makes it anew")
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    columns = (table[name].to_pylist() for name in ("pieces", "samples", "num_targets"))
    yield from zip(*columns, strict=True)


def _arrays(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where samples end, and all their tokens and masks."""
    masks = batch["is_target"].values.to_numpy(zero_copy_only=False)
    return batch["ids"].offsets.to_numpy(), batch["ids"].values.to_numpy(), masks


def _key(version: DatasetVersion, tokens: Tokenised, config: TrainConfig, segment_tokens: int) -> str:
    parts = [
        CODE_VERSION, version.digest, [piece.sha256 for piece in tokens.pieces], segment_tokens, config.row_tokens,
        config.data.validation_share, config.run.seed,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _read_index(folder: Path) -> dict[str, Any] | None:
    """The segments made before; None where any of them is not what was written."""
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text("utf-8"))
        segments = [segment for split in SPLITS for segment in index[split]]
        whole = all(_is_whole(folder / segment["path"], segment["sha256"]) for segment in segments)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if whole else None


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _pack(
    version: DatasetVersion, tokens: Tokenised, config: TrainConfig, segment_tokens: int, folder: Path
) -> dict[str, Any]:
    """Splits the samples, in the version's order, into segments of packed rows."""
    folder.mkdir(parents=True, exist_ok=True)
    held_out = group_hashes(sorted(_held_out_groups(version, config)))
    found: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    open_samples: dict[str, list[_Sample]] = {split: [] for split in SPLITS}
    open_tokens = dict.fromkeys(SPLITS, 0)

    def close(split: str) -> None:
        path = f"{split}-{len(found[split]):05d}.arrow"
        found[split].append(asdict(_write(folder / path, open_samples[split], config.row_tokens)))
        open_samples[split], open_tokens[split] = [], 0

    for number, piece in enumerate(tokens.pieces):
        batch = piece.open(tokens.folder)
        lengths = np.diff(batch["ids"].offsets.to_numpy())
        is_held_out = np.isin(batch["group"].to_numpy(), held_out)
        targets = batch["num_targets"].to_numpy()
        for index, (length, held, learned) in enumerate(zip(lengths, is_held_out, targets, strict=True)):
            split = "validation" if held else "train"
            open_samples[split].append(_Sample(number, index, int(length), int(learned)))
            open_tokens[split] += int(length)
            if open_tokens[split] >= segment_tokens:
                close(split)
    for split in SPLITS:
        if open_samples[split]:
            close(split)
    appear(folder / "index.json", json.dumps(found).encode())
    return found


def _write(path: Path, samples: Sequence[_Sample], capacity: int) -> Segment:
    rows = pack([sample.length for sample in samples], capacity)
    num_targets = [sum(samples[index].num_targets for index in row) for row in rows]
    columns = {
        "pieces": [[samples[index].piece for index in row] for row in rows],
        "samples": [[samples[index].place for index in row] for row in rows],
        "num_targets": num_targets,
    }
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=SCHEMA))
    content = sink.getvalue()
    appear(path, content)
    tokens = sum(sample.length for sample in samples)
    return Segment(path.name, len(rows), tokens, sum(num_targets), hashlib.sha256(content).hexdigest())


def _held_out_groups(version: DatasetVersion, config: TrainConfig) -> set[str]:
    """Groups of the validation split: chosen by ids and seed only, so that other lengths share it."""
    if config.data.validation_share == 0:
        return set()
    sizes: Counter[str] = Counter()
    last = None
    for names, groups in version.conversations_and_groups():
        for name, group in zip(names, groups, strict=True):
            sizes[group] += name != last  # windows of one conversation stand together
            last = name
    total = sizes.total()
    wanted = min(max(MIN_HELD_OUT, round(config.data.validation_share * total)), MAX_HELD_OUT)
    wanted = min(wanted, int(MAX_HELD_OUT_SHARE * total))
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{config.run.seed}:{group}".encode()).digest())
    chosen: set[str] = set()
    count = 0
    for group in order:
        if count >= wanted:
            break
        chosen.add(group)
        count += sizes[group]
    return chosen


def _facts(pieces: Sequence[Piece]) -> dict[str, Any]:
    counts: Counter[str] = Counter(samples=sum(piece.samples for piece in pieces))
    for piece in pieces:
        counts.update(piece.counts)
    refusals = {row: reason for piece in pieces for row, reason in piece.refusals.items()}
    return {**counts, **({"refusals": dict(list(refusals.items())[:5])} if refusals else {})}
