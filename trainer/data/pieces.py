"""Files of samples: a part of a version as token ids and loss masks, with a summary and its checksum beside.

They appear by renaming, and the same name has the same bytes whoever writes it, so several runs may fill one cache.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainer.chat_tokenizer import ChatTokenizer
from trainer.checked_files import Stamp, appear, is_whole, stamp_if_whole
from trainer.config import Data
from trainer.data.likeness import SKETCH_BYTES, sketch
from trainer.data.version import Conversation, SegmentPart, read_part
from trainer.dialogues import DialogueError, EncodedRow, Lengths, encode_window, make_windows
from trainer.records import DamagedCacheError
from trainer.reward.preferences import encode_pair

MAX_REFUSALS_TOLD = 5
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("conversation_id", pa.string()),
        ("group", pa.uint64()),
        ("sketch", pa.binary(SKETCH_BYTES)),
        ("ids", pa.list_(pa.int32())),
        ("is_target", pa.list_(pa.bool_())),
        ("num_targets", pa.int32()),
    ]
)
"""A sample: its row in the version, that row's conversation, the hash of its group, the sketch of all that the row
says, its tokens, which are learned, and how many those are."""


@dataclass(frozen=True)
class Piece:
    """A file of samples and what is known of it."""

    path: str
    samples: int
    tokens: int
    target_tokens: int
    bytes: int
    sha256: str
    counts: dict[str, int]
    """Of conversations, windows, cuts, samples without a target, conversations refused."""
    refusals: dict[str, str]
    """Some of the refused rows, with the reason."""

    def open(self, folder: Path, known: Stamp | None = None) -> pa.RecordBatch:
        """The samples, memory-mapped; the checksum is compared unless the file has the stamp that is known to be right.

        Raises:
            DamagedCacheError: the file was damaged after the run began.
        """
        path = folder / self.path
        if not is_whole(path, self.sha256, known):
            raise DamagedCacheError(f"{path} of the token cache is damaged; the next run makes it anew")
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).get_batch(0)


@dataclass
class _Samples:
    """Samples that are not yet written."""

    ids: list[str] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    sketches: list[bytes] = field(default_factory=list)
    tokens: list[np.ndarray] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)

    def add(self, conversation: Conversation, rows: list[EncodedRow]) -> None:
        said = sketch(conversation.messages) if rows else b""
        for row in rows:
            self.ids.append(conversation.id)
            self.conversations.append(conversation.conversation_id)
            self.groups.append(conversation.group)
            self.sketches.append(said)
            self.tokens.append(np.array(row.ids, np.int32))
            self.masks.append(np.array(row.is_target, np.bool_))

    def as_batch(self) -> pa.RecordBatch:
        ends = pa.array(np.cumsum([0, *map(len, self.tokens)], dtype=np.int32))
        columns = [
            pa.array(self.ids, pa.string()),
            pa.array(self.conversations, pa.string()),
            pa.array(name_hashes(self.groups)),
            pa.array(self.sketches, pa.binary(SKETCH_BYTES)),
            pa.ListArray.from_arrays(ends, pa.array(np.concatenate([np.empty(0, np.int32), *self.tokens]))),
            pa.ListArray.from_arrays(ends, pa.array(np.concatenate([np.empty(0, np.bool_), *self.masks]))),
            pa.array([int(mask.sum()) for mask in self.masks], pa.int32()),
        ]
        return pa.record_batch(columns, SCHEMA)


def find_piece(folder: Path, name: str) -> tuple[Piece, Stamp] | None:
    """What was made before, if it is still what it was."""
    try:
        piece = Piece(**json.loads((folder / f"{name}.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    stamp = stamp_if_whole(folder / piece.path, piece.sha256)
    return None if stamp is None else (piece, stamp)


def make_piece(part: SegmentPart, chat: ChatTokenizer, data: Data, folder: Path) -> tuple[Piece, Stamp]:
    """Tokenises a part of a version, unless another run has done so meanwhile.

    Raises:
        ConfigError: the segment cannot be read.
    """
    if (made := find_piece(folder, part.name)) is not None:
        return made
    lengths = Lengths(data.max_source_length, data.max_target_length, data.min_history_ratio)
    counts = Counter(dict.fromkeys(("conversations", "windows", "cuts", "without_target", "refused"), 0))
    refusals: dict[str, str] = {}
    samples = _Samples()
    for conversation in read_part(part):
        counts["conversations"] += 1
        if data.targets == "last" and conversation.has_later_window:
            counts["without_target"] += 1
            continue
        try:
            if data.preferences is not None:
                windows, rows = [], [encode_pair(chat, conversation.messages, lengths)]
            else:
                windows = make_windows(chat, conversation.messages, lengths, targets=data.targets)
                rows = [encode_window(chat, w.messages, lengths.max_target_length) for w in windows]
        except DialogueError as error:
            counts["refused"] += 1
            if len(refusals) < MAX_REFUSALS_TOLD:
                refusals[conversation.id] = str(error)
            continue
        learned = [row for row in rows if any(row.is_target)]
        for row in learned:
            _check(row, data, chat)
        samples.add(conversation, learned)
        cuts = sum(len(window.cuts) for window in windows)
        counts.update(windows=len(windows), cuts=cuts, without_target=len(rows) - len(learned))
    return _write(folder, part.name, samples.as_batch(), dict(counts), refusals)


def _check(row: EncodedRow, data: Data, chat: ChatTokenizer) -> None:
    longest = data.max_source_length + data.max_target_length
    assert len(row.ids) <= (longest if data.preferences is None else 2 * (longest + 1))
    assert not row.is_target[0], "nothing stands before a sample from which its first token could be learned"
    assert max(row.ids) < chat.vocab_size


def _write(
    folder: Path, name: str, batch: pa.RecordBatch, counts: dict[str, int], refusals: dict[str, str]
) -> tuple[Piece, Stamp]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(batch)
    content = sink.getvalue()
    piece = Piece(
        path=f"{name}.arrow",
        samples=batch.num_rows,
        tokens=len(batch["ids"].values),
        target_tokens=int(batch["num_targets"].to_numpy().sum()),
        bytes=content.size,
        sha256=hashlib.sha256(content).hexdigest(),
        counts=counts,
        refusals=refusals,
    )
    stamp = appear(folder / piece.path, content)
    appear(folder / f"{name}.json", json.dumps(asdict(piece), ensure_ascii=False).encode())
    return piece, stamp


def name_hashes(names: list[str]) -> np.ndarray:
    """64 bits of each name: chance brings two of a million together once in 37 million versions."""
    hashes = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(hashes), np.uint64)
