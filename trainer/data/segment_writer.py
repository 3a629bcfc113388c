"""Writes samples, in their order, as segments of packed rows."""

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from trainer.checked_files import appear
from trainer.data.packing import pack
from trainer.data.vectors import SCHEMA, Segment

SEGMENT_CONVERSATIONS = 4096
"""Of a segment with a row for each conversation."""


class Sample(NamedTuple):
    """A sample of the token cache."""

    piece: int
    place: int
    length: int
    num_targets: int
    conversation: str


class SegmentWriter:
    """Packs samples of one source, a segment at a time."""

    def __init__(
        self, folder: Path, name: str, source: int, capacity: int | None, segment_tokens: int, *, whole: bool = False
    ) -> None:
        """`capacity` is a row's tokens; None: a row for each sample. A segment ends with `segment_tokens` tokens.

        `whole`: a row for each conversation, however long, and segments end with so many of them, so that other lengths
        give the same rows.
        """
        self._folder = folder
        self._name = name
        self._source = source
        self._capacity = capacity
        self._segment_tokens = segment_tokens
        self._whole = whole
        self._open: list[Sample] = []
        self._open_tokens = self._open_conversations = 0
        self._segments: list[Segment] = []

    def add(self, sample: Sample) -> None:
        """Takes one more sample."""
        is_another = not self._open or self._open[-1].conversation != sample.conversation
        if self._whole and is_another and self._open_conversations == SEGMENT_CONVERSATIONS:
            self._write()
        self._open.append(sample)
        self._open_tokens += sample.length
        self._open_conversations += is_another
        if not self._whole and self._open_tokens >= self._segment_tokens:
            self._write()

    def close(self) -> list[Segment]:
        """All segments, the last one too."""
        if self._open:
            self._write()
        return self._segments

    def _write(self) -> None:
        samples = self._open
        rows = _by_conversation(samples) if self._whole else pack([one.length for one in samples], self._capacity)
        num_targets = [sum(samples[index].num_targets for index in row) for row in rows]
        columns = {
            "pieces": [[samples[index].piece for index in row] for row in rows],
            "samples": [[samples[index].place for index in row] for row in rows],
            "num_targets": num_targets,
        }
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_batch(pa.RecordBatch.from_pydict(columns, SCHEMA))
        content = sink.getvalue()
        path = f"{self._name}-{len(self._segments):05d}.arrow"
        appear(self._folder / path, content)
        sha256 = hashlib.sha256(content).hexdigest()
        self._segments.append(
            Segment(path, self._source, len(rows), len(samples), self._open_tokens, sum(num_targets), sha256)
        )
        self._open, self._open_tokens, self._open_conversations = [], 0, 0


def _by_conversation(samples: Sequence[Sample]) -> list[list[int]]:
    """Places of the samples of each conversation, which stand together."""
    groups = groupby(range(len(samples)), key=lambda place: samples[place].conversation)
    return [list(places) for _, places in groups]
