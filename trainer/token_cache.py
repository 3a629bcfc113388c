"""The token cache: conversations as token ids and loss masks, in files that are made once and memory-mapped after.

A file holds the samples of up to 1,000 rows of one of the version's segments, and is named after that segment's content
and the rows' place; its folder is named after everything else that could change a token. So a version that shares
segments with an earlier one costs only its new segments, and work that was cut short goes on with what is missing.
Beside each file lies a summary with its checksum; a file without one, or with another one, is made anew. Everything
appears by renaming, and the same name has the same bytes whoever writes it, so several runs may fill one cache at once.
"""

import hashlib
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import Data
from trainer.dialogues import DIALOGUES_VERSION, DialogueError, EncodedRow, Lengths, encode_window, make_windows
from trainer.records import TrainingError
from trainer.run_lock import die_with_parent
from trainer.version import DatasetVersion, SegmentPart, read_part

CODE_VERSION = 4
"""Raised with every change of what samples come out; `DIALOGUES_VERSION` tells how dialogues become tokens."""
MIN_PARTS_A_PROCESS = 2
"""A process needs about a second to start, as long as it tokenises a part."""
STALE_S = 3_600.0
"""Age of a temporary file whose writer must be gone."""
MAX_REFUSALS_TOLD = 5
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("conversation_id", pa.string()),
        ("group", pa.uint64()),
        ("ids", pa.list_(pa.int32())),
        ("is_target", pa.list_(pa.bool_())),
        ("num_targets", pa.int32()),
    ]
)
"""A sample: its row in the version, that row's conversation, the hash of its group, its tokens, which are learned, and
how many those are."""


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

    def is_whole(self, folder: Path) -> bool:
        """Whether the file is what was written."""
        try:
            with (folder / self.path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False

    def open(self, folder: Path) -> pa.RecordBatch:
        """The samples, memory-mapped, after a look at the checksum.

        Raises:
            TrainingError: the file was damaged after the run began.
        """
        if not self.is_whole(folder):
            raise TrainingError(f"{folder / self.path} of the token cache is damaged; the next run makes it anew")
        with pa.memory_map(str(folder / self.path)) as source:
            return pa.ipc.open_file(source).get_batch(0)


@dataclass(frozen=True)
class Tokenised:
    """All of a version's samples."""

    folder: Path
    pieces: tuple[Piece, ...]
    made: int
    """How many of the files had to be made."""
    damaged: int
    """How many of those had been there, with other bytes than were written."""


def token_folder(root: Path, chat: ChatTokenizer, data: Data) -> Path:
    """Where tokens made with this tokenizer, template, lengths and code lie."""
    parts = [
        CODE_VERSION, DIALOGUES_VERSION, chat.fingerprint, data.max_source_length, data.max_target_length,
        data.min_history_ratio, data.targets, data.loss_on,
    ]  # fmt: skip
    return root / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def tokenise(
    version: DatasetVersion,
    chat: ChatTokenizer,
    data: Data,
    root: Path,
    *,
    processes: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tokenised:
    """Makes the files that are missing or damaged, by several processes; `on_progress` hears rows done and rows in all.

    More than one process needs a `chat` that was loaded from a folder.

    Raises:
        ConfigError: a segment of the version is damaged.
        TrainingError: a process was killed.
    """
    folder = token_folder(root, chat, data)
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    parts = version.parts()
    found = {part.name: _find(folder, part.name) for part in parts}
    missing = [part for part in parts if found[part.name] is None]
    damaged = sum((folder / f"{part.name}.arrow").exists() for part in missing)
    total = sum(part.rows for part in parts)
    done = total - sum(part.rows for part in missing)
    for segment in sorted({part.segment for part in missing}):
        version.check_segment(segment)
    for part, made in _make(version, missing, chat, data, folder, processes):
        found[part.name] = made
        done += part.rows
        if on_progress is not None:
            on_progress(done, total)
    pieces = tuple(piece for part in parts if (piece := found[part.name]) is not None)
    return Tokenised(folder, pieces, len(missing), damaged)


def group_hashes(groups: list[str]) -> np.ndarray:
    """64 bits of each group's name: chance brings two of a million together once in 37 million versions."""
    hashes = (hashlib.blake2b(group.encode(), digest_size=8).digest() for group in groups)
    return np.frombuffer(b"".join(hashes), np.uint64)


def _find(folder: Path, name: str) -> Piece | None:
    """What was made before, if it is still what it was."""
    try:
        piece = Piece(**json.loads((folder / f"{name}.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return piece if piece.is_whole(folder) else None


def _make(
    version: DatasetVersion, parts: list[SegmentPart], chat: ChatTokenizer, data: Data, folder: Path, processes: int
) -> Iterator[tuple[SegmentPart, Piece]]:
    """Tokenises parts, here or by processes that end with this one."""
    processes = min(processes, len(parts) // MIN_PARTS_A_PROCESS)
    if processes < 2:
        for part in parts:
            yield part, make_piece(version.folder, part, chat, data, folder)
        return
    context = get_context("spawn")  # what tokenised or read Parquet once does not survive a fork
    with ProcessPoolExecutor(processes, context, _begin_process, (os.getpid(),)) as pool:
        waiting = {
            pool.submit(_make_in_process, version.folder, part, chat.name, chat.fingerprint, data, folder): part
            for part in parts
        }
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool:
            raise TrainingError("a process that tokenised was killed; started again, the run goes on there") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_process(parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its processes


def _make_in_process(
    source: Path, part: SegmentPart, tokenizer: str, fingerprint: str, data: Data, folder: Path
) -> Piece:
    chat = load_chat_tokenizer(tokenizer)
    assert chat.fingerprint == fingerprint, "the tokenizer's folder holds another one by now"
    return make_piece(source, part, chat, data, folder)


def make_piece(source: Path, part: SegmentPart, chat: ChatTokenizer, data: Data, folder: Path) -> Piece:
    """Tokenises a part of the version in `source`, unless another run has done so meanwhile."""
    if (piece := _find(folder, part.name)) is not None:
        return piece
    lengths = Lengths(data.max_source_length, data.max_target_length, data.min_history_ratio)
    counts = dict.fromkeys(("conversations", "windows", "cuts", "without_target", "refused"), 0)
    refusals: dict[str, str] = {}
    ids: list[str] = []
    conversations: list[str] = []
    groups: list[str] = []
    tokens: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for conversation in read_part(source, part):
        counts["conversations"] += 1
        if data.targets == "last" and conversation.has_later_window:
            counts["without_target"] += 1
            continue
        try:
            windows = make_windows(chat, conversation.messages, lengths, targets=data.targets)
            rows = [encode_window(chat, w.messages, lengths.max_target_length) for w in windows]
        except DialogueError as error:
            counts["refused"] += 1
            if len(refusals) < MAX_REFUSALS_TOLD:
                refusals[conversation.id] = str(error)
            continue
        counts["windows"] += len(windows)
        counts["cuts"] += sum(len(window.cuts) for window in windows)
        for row in rows:
            if not any(row.is_target):
                counts["without_target"] += 1
                continue
            _check(row, data, chat)
            ids.append(conversation.id)
            conversations.append(conversation.conversation_id)
            groups.append(conversation.group)
            tokens.append(np.array(row.ids, np.int32))
            masks.append(np.array(row.is_target, np.bool_))
    return _write(folder, part.name, _batch(ids, conversations, groups, tokens, masks), counts, refusals)


def _check(row: EncodedRow, data: Data, chat: ChatTokenizer) -> None:
    assert len(row.ids) <= data.max_source_length + data.max_target_length
    assert not row.is_target[0], "nothing stands before a sample from which its first token could be learned"
    assert max(row.ids) < chat.vocab_size


def _batch(
    ids: list[str], conversations: list[str], groups: list[str], tokens: list[np.ndarray], masks: list[np.ndarray]
) -> pa.RecordBatch:
    ends = np.cumsum([0, *map(len, tokens)], dtype=np.int32)
    flat = np.concatenate([np.empty(0, np.int32), *tokens])
    flat_masks = np.concatenate([np.empty(0, np.bool_), *masks])
    columns = [
        pa.array(ids, pa.string()),
        pa.array(conversations, pa.string()),
        pa.array(group_hashes(groups)),
        pa.ListArray.from_arrays(pa.array(ends), pa.array(flat)),
        pa.ListArray.from_arrays(pa.array(ends), pa.array(flat_masks)),
        pa.array([int(mask.sum()) for mask in masks], pa.int32()),
    ]
    return pa.record_batch(columns, SCHEMA)


def _write(folder: Path, name: str, batch: pa.RecordBatch, counts: dict[str, int], refusals: dict[str, str]) -> Piece:
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
    appear(folder / piece.path, content)
    appear(folder / f"{name}.json", json.dumps(asdict(piece), ensure_ascii=False).encode())
    return piece


def appear(path: Path, content: bytes | pa.Buffer) -> None:
    """Lets a file of the cache appear whole, whoever else writes the same one now."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _sweep(folder: Path) -> None:
    """Removes what writers that were killed left behind."""
    for path in folder.glob(".*.new"):
        try:
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink()
        except FileNotFoundError:
            continue  # another run has swept it
