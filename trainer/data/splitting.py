"""Which samples are learned, which are validated on, and which are left out because the validation set has them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from trainer.config import TrainConfig
from trainer.data.holding_out import held_out_groups
from trainer.data.likeness import SKETCH_BYTES, Lookup, SketchBook, likeness
from trainer.data.pieces import name_hashes
from trainer.data.token_cache import Tokenised
from trainer.data.version import DatasetVersion, group_of

SPLITTING_VERSION = 1
"""Raised with every change of what is held out or left out."""
SAME_ID_LIKENESS = 0.1
"""An id alone proves nothing, since two files may both count from 1: what is said must have something in common."""
TRAIN, VALIDATION, OUT = 0, 1, 2


class Splitter:
    """Decides on the samples of each file of the token cache."""

    def __init__(
        self, version: DatasetVersion, config: TrainConfig, tokens: Tokenised, source_of: Sequence[int]
    ) -> None:
        """`source_of` numbers the version of each file; files behind those are of the version to validate on."""
        self._source_of = source_of
        self._out: Counter[str] = Counter()
        batches = [piece.open(tokens.folder, tokens.stamps[piece.path]) for piece in tokens.pieces]
        own, given = batches[: source_of.count(0)], batches[len(source_of) :]
        self._held_out = np.empty(0, np.uint64)
        if config.data.validation is None:
            groups = [batch["group"].to_numpy() for batch in own]
            book = SketchBook([sketches_of(batch) for batch in own])
            self._held_out = held_out_groups(version, config, groups, book)
            if config.data.mix:
                columns = [batch.select(["conversation_id", "group", "sketch"]) for batch in own]
                given = [batch.filter(pa.array(self._is_held_out(batch))) for batch in columns]
        self._known = _ValidationSet(given) if given else None
        self._is_given = config.data.validation is not None

    def split(self, number: int, batch: pa.RecordBatch) -> np.ndarray:
        """Of each sample of a file: TRAIN, VALIDATION or OUT."""
        if number >= len(self._source_of):
            return np.full(batch.num_rows, VALIDATION)
        is_main = self._source_of[number] == 0
        splits = np.where(self._is_held_out(batch), VALIDATION, TRAIN) if is_main else np.full(batch.num_rows, TRAIN)
        if self._known is not None and (self._is_given or not is_main):
            splits[self._known.shared(batch, self._out)] = OUT
        return splits

    @property
    def facts(self) -> dict[str, Any]:
        """How many conversations were left out, by reason, once all files are split."""
        return {"shared_with_validation": dict(self._out)} if self._known is not None else {}

    def _is_held_out(self, batch: pa.RecordBatch) -> np.ndarray:
        return np.isin(batch["group"].to_numpy(), self._held_out)


class _ValidationSet:
    """The conversations to validate on: finds those that are the same elsewhere."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        owns = [_own_groups(batch) for batch in batches]
        groups = np.concatenate([batch["group"].to_numpy() for batch in batches])
        own = np.concatenate(owns)
        self._users = np.unique(groups[groups != own])
        self._ids, firsts = np.unique(own, return_index=True)
        book = SketchBook([sketches_of(batch) for batch in batches])
        self._sketches = book.take(firsts)
        self._lookup = Lookup(book)

    def shared(self, batch: pa.RecordBatch, counts: Counter[str]) -> np.ndarray:
        """Which samples are of conversations that the set has: the same user, or id, or nearly the same content.

        `counts` counts these conversations, each by the first reason that holds.
        """
        own, groups, sketches = _own_groups(batch), batch["group"].to_numpy(), sketches_of(batch)
        reasons = {
            "same_user": (groups != own) & np.isin(groups, self._users),
            "same_id": self._has_same_id(own, sketches),
            "same_content": self._lookup.is_alike(sketches),
        }
        out = np.zeros(batch.num_rows, np.bool_)
        for reason, is_shared in reasons.items():
            concerned = np.unique(own[is_shared & ~out])
            if len(concerned):
                counts[reason] += len(concerned)
                out |= np.isin(own, concerned)
        return out

    def _has_same_id(self, own: np.ndarray, sketches: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self._ids, own), len(self._ids) - 1)
        same = (self._ids[at] == own) if len(self._ids) else np.zeros(len(own), np.bool_)
        places = np.flatnonzero(same)
        same[places] = likeness(sketches[places], self._sketches[at[places]]) >= SAME_ID_LIKENESS
        return same


def sketches_of(batch: pa.RecordBatch) -> np.ndarray:
    """The sketches of a file's samples as rows of bytes, where they lie."""
    column = batch["sketch"]
    content = np.frombuffer(column.buffers()[1] or b"", np.uint8).reshape(-1, SKETCH_BYTES)
    return content[column.offset : column.offset + len(column)]


def _own_groups(batch: pa.RecordBatch) -> np.ndarray:
    """Hashes of the conversations' names, as groups have them that are no users."""
    return name_hashes([group_of(name, None) for name in batch["conversation_id"].to_pylist()])
