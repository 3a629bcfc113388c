"""From versions to a run's token vectors: tokenised, split into training and validation, packed into segments.

What was made before is used again: tokens from the token cache, packed rows by a key over all that could change one, so
that other seeds, shares and segment sizes cost no tokens.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.chat_tokenizer import ChatTokenizer
from trainer.checked_files import Stamp, appear, stamp_if_whole
from trainer.config import MAX_SEGMENT_TOKENS, ConfigError, TrainConfig
from trainer.data.pieces import MAX_REFUSALS_TOLD, Piece
from trainer.data.segment_writer import Sample, SegmentWriter
from trainer.data.slices import Where
from trainer.data.splitting import SPLITTING_VERSION, TRAIN, VALIDATION, Splitter
from trainer.data.token_cache import Tokenised, tokenise
from trainer.data.vectors import Segment, Vectors
from trainer.data.version import DatasetVersion, SegmentPart, check_bounds, open_version

CODE_VERSION = 4
"""Raised with every change of the rows that come out of the same samples."""
MIN_SEGMENT_TOKENS = 65_536
SEGMENTS_A_RUN = 64
SPLITS = {TRAIN: "train", VALIDATION: "validation"}


class _Learned(NamedTuple):
    """A version of a run, or a slice of one."""

    version: DatasetVersion
    where: Where
    weight: float
    """Its tokens in an epoch for each token of the main version."""


def vectorise(
    version: DatasetVersion,
    chat: ChatTokenizer,
    config: TrainConfig,
    *,
    processes: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Vectors:
    """Makes a run's token vectors, or finds those made before; what was cut short goes on where it was.

    `on_progress` hears how many rows of the versions are tokenised, and of how many.

    Raises:
        ConfigError: a slice has nothing in it; a segment of a version is damaged; a version mixed in or validated on
            cannot be used.
        TrainingError: a process that tokenised was killed.
    """
    learned, validation = _open(version, config)
    of_each = [one.version.parts(one.where) for one in learned]
    parts = [part for parts in of_each for part in parts]
    parts += validation.parts() if validation else []
    root = cache_root(version, config)
    tokens = tokenise(parts, chat, config.data, root, processes=processes, on_progress=on_progress)
    source_of = [number for number, own in enumerate(of_each) for _ in own]
    _check_slices(learned, tokens.pieces, source_of, config)
    segment_tokens = _segment_tokens(config, tokens.pieces[: len(of_each[0])])
    folder = tokens.folder / f"rows-{_key(learned, validation, of_each, tokens, config, segment_tokens)}"
    found, reused = _read_index(folder), tokens.made == 0
    if found is None:
        _pack(tokens, source_of, Splitter(version, config, tokens, source_of), config, segment_tokens, folder)
        found, reused = _read_index(folder), False
        assert found is not None, "it was written a moment ago"
    index, stamps = found
    train, held_out = (tuple(Segment(**segment) for segment in index[split]) for split in SPLITS.values())
    names = _names([one.version for one in learned])
    rows = _rows_an_epoch(train, [one.weight for one in learned])
    facts = {
        **_counts(tokens, len(source_of)),
        **index["facts"],
        "fill": _fill(train, config.row_tokens) if config.batch.by == "tokens" else None,
        **({"sources": _sources(train, names, rows)} if len(names) > 1 else {}),
    }
    return Vectors(
        folder, tokens.folder, tokens.pieces, train, held_out, names, rows, segment_tokens,
        {**tokens.stamps, **stamps}, facts, reused, config.data.packing if config.batch.by == "conversations" else None,
    )  # fmt: skip


def cache_root(version: DatasetVersion, config: TrainConfig) -> Path:
    """Where what is made of a run's versions is kept for other runs."""
    return Path(config.data.cache_dir) if config.data.cache_dir else version.folder / "vectors"


def _open(version: DatasetVersion, config: TrainConfig) -> tuple[list[_Learned], DatasetVersion | None]:
    """What is learned, and the version to validate on where one is given."""
    data = config.data
    learned = [_Learned(version, data.where, 1.0)]
    for number, source in enumerate(data.mix):
        mixed = open_version(source.version, f"data.mix.{number}.version")
        learned.append(_Learned(mixed, source.where, source.weight))
    validation = open_version(data.validation, "data.validation") if data.validation else None
    for other in (*(one.version for one in learned[1:]), *([validation] if validation else [])):
        check_bounds(other, data.max_source_length, data.max_target_length)
    return learned, validation


def _check_slices(
    learned: Sequence[_Learned], pieces: Sequence[Piece], source_of: Sequence[int], config: TrainConfig
) -> None:
    found: Counter[int] = Counter()
    for source, piece in zip(source_of, pieces, strict=False):
        found[source] += piece.counts["conversations"]
    for number, one in enumerate(learned):
        if one.where and not found[number]:
            field = "data.where" if number == 0 else f"data.mix.{number - 1}.where"
            raise ConfigError(f"{field}: no conversation of the version is {', '.join(one.where)}")


def _segment_tokens(config: TrainConfig, pieces: Sequence[Piece]) -> int:
    if config.data.segment_tokens != "auto":
        return config.data.segment_tokens
    total = sum(piece.tokens for piece in pieces)
    return min(MAX_SEGMENT_TOKENS, max(MIN_SEGMENT_TOKENS, total // SEGMENTS_A_RUN))


def _key(
    learned: Sequence[_Learned], validation: DatasetVersion | None, of_each: Sequence[Sequence[SegmentPart]],
    tokens: Tokenised, config: TrainConfig, segment_tokens: int,
) -> str:  # fmt: skip
    key = [
        CODE_VERSION, SPLITTING_VERSION, [one.version.digest for one in learned],
        [[part.name for part in own] for own in of_each], [piece.sha256 for piece in tokens.pieces],
        validation.digest if validation else None, segment_tokens,
        config.row_tokens, config.data.packing, config.batch.by, config.data.validation_share, config.validation_seed,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


def _read_index(folder: Path) -> tuple[dict[str, Any], dict[str, Stamp]] | None:
    """The segments made before and their stamps; None where any of them is not what was written."""
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text("utf-8"))
        segments = [segment for split in SPLITS.values() for segment in index[split]]
        stamps = {one["path"]: stamp_if_whole(folder / one["path"], one["sha256"]) for one in segments}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if None in stamps.values() else (index, {path: stamp for path, stamp in stamps.items() if stamp})


def _pack(
    tokens: Tokenised, source_of: Sequence[int], splitter: Splitter, config: TrainConfig, segment_tokens: int,
    folder: Path,
) -> None:  # fmt: skip
    """Splits the samples, in the versions' order, and packs them into segments of one source each."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[tuple[int, int], SegmentWriter] = {}
    capacity = config.row_tokens if config.data.packing else None
    for number, piece in enumerate(tokens.pieces):
        batch = piece.open(tokens.folder, tokens.stamps[piece.path])
        lengths = np.diff(batch["ids"].offsets.to_numpy()).tolist()
        targets = batch["num_targets"].to_pylist()
        conversations = batch["conversation_id"].to_pylist()
        source = source_of[number] if number < len(source_of) else 0
        for place, split in enumerate(splitter.split(number, batch).tolist()):
            if split in SPLITS:
                writer = writers.get((split, source))
                if writer is None:
                    name = SPLITS[split] if source == 0 else f"mix-{source}"
                    whole = config.batch.by == "conversations" and split == TRAIN
                    writer = SegmentWriter(folder, name, source, capacity, segment_tokens, whole=whole)
                    writers[split, source] = writer
                writer.add(Sample(number, place, lengths[place], targets[place], conversations[place]))
    of_split: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS.values()}
    for (split, _), writer in sorted(writers.items()):
        of_split[SPLITS[split]] += [asdict(segment) for segment in writer.close()]
    appear(folder / "index.json", json.dumps({**of_split, "facts": splitter.facts}).encode())


def _rows_an_epoch(train: Iterable[Segment], weights: Sequence[float]) -> tuple[int, ...]:
    """Of each source: all of the main version's rows, and as many of another one as make its weight in tokens."""
    rows, tokens = [0] * len(weights), [0] * len(weights)
    for segment in train:
        rows[segment.source] += segment.rows
        tokens[segment.source] += segment.tokens
    mixed = [
        max(1, round(weight * tokens[0] * own_rows / own_tokens)) if own_tokens else 0
        for weight, own_rows, own_tokens in list(zip(weights, rows, tokens, strict=True))[1:]
    ]
    return rows[0], *mixed


def _names(versions: Sequence[DatasetVersion]) -> tuple[str, ...]:
    """What the versions are called in metrics: their folders' names, with a number where that says nothing new."""
    names: list[str] = []
    for number, version in enumerate(versions):
        name = version.folder.resolve().name
        names.append(f"{name}#{number}" if name in names else name)
    return tuple(names)


def _fill(segments: Sequence[Segment], row_tokens: int) -> float | None:
    """Share of the rows' tokens that are no padding."""
    rows = sum(segment.rows for segment in segments)
    return round(sum(segment.tokens for segment in segments) / (rows * row_tokens), 4) if rows else None


def _sources(train: Sequence[Segment], names: Sequence[str], rows: Sequence[int]) -> dict[str, dict[str, int]]:
    return {
        name: {
            "rows": sum(segment.rows for segment in train if segment.source == number),
            "tokens": sum(segment.tokens for segment in train if segment.source == number),
            "target_tokens": sum(segment.target_tokens for segment in train if segment.source == number),
            "rows_an_epoch": rows[number],
        }
        for number, name in enumerate(names)
    }


def _counts(tokens: Tokenised, num_learned: int) -> dict[str, Any]:
    """What became of the conversations of the versions that are learned."""
    pieces = tokens.pieces[:num_learned]
    counts: Counter[str] = Counter(samples=sum(piece.samples for piece in pieces))
    for piece in pieces:
        counts.update(piece.counts)
    refusals = list({row: reason for piece in pieces for row, reason in piece.refusals.items()}.items())
    told = {"refusals": dict(refusals[:MAX_REFUSALS_TOLD])} if refusals else {}
    return {**counts, "files_made": tokens.made, "files_damaged": tokens.damaged, **told}
