"""The token cache: conversations as token ids and loss masks, in files that are made once and memory-mapped after.

A file holds the samples of up to 1,000 rows of one of a version's segments. It is named after that segment's content,
the rows' place and, of a slice, its conditions; its folder is named after everything else that could change a token. So
a version that shares segments with an earlier one costs only its new segments, and work that was cut short goes on with
what is missing. A file that is not what its checksum says is made anew.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.checked_files import Stamp
from trainer.config import Data
from trainer.data.pieces import Piece, find_piece, make_piece
from trainer.data.version import SegmentPart
from trainer.dialogues import DIALOGUES_VERSION
from trainer.records import TrainingError
from trainer.run_lock import die_with_parent

CODE_VERSION = 5
"""Raised with every change of what samples come out; `DIALOGUES_VERSION` tells how dialogues become tokens."""
MIN_PARTS_A_PROCESS = 2
"""A process needs about a second to start, as long as it tokenises a part."""
STALE_S = 3_600.0
"""Age of a temporary file whose writer must be gone."""


@dataclass(frozen=True)
class Tokenised:
    """The samples of some parts."""

    folder: Path
    pieces: tuple[Piece, ...]
    """One for each part, in their order."""
    stamps: dict[str, Stamp]
    """Of the files, which have been compared with their checksums."""
    made: int
    """How many of the files had to be made."""
    damaged: int
    """How many of those had been there, with other bytes than were written."""


def token_folder(root: Path, chat: ChatTokenizer, data: Data) -> Path:
    """Where tokens made with this tokenizer, template, lengths and code lie."""
    parts = [
        CODE_VERSION, DIALOGUES_VERSION, chat.fingerprint, data.max_source_length, data.max_target_length,
        data.min_history_ratio, data.targets, data.loss_on, data.preferences is not None,
    ]  # fmt: skip
    return root / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def tokenise(
    parts: Sequence[SegmentPart],
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
    os.utime(folder)  # when it was used last: who tidies up goes by it
    _sweep(folder)
    by_name = {part.name: part for part in parts}
    found = {name: made for name in by_name if (made := find_piece(folder, name)) is not None}
    missing = [part for name, part in by_name.items() if name not in found]
    damaged = sum((folder / f"{part.name}.arrow").exists() for part in missing)
    total = sum(part.rows for part in by_name.values())
    done = total - sum(part.rows for part in missing)
    for part in {(part.folder, part.segment): part for part in missing}.values():
        part.check()
    for part, made in _make(missing, chat, data, folder, processes):
        found[part.name] = made
        done += part.rows
        if on_progress is not None:
            on_progress(done, total)
    pieces = tuple(found[part.name][0] for part in parts)
    return Tokenised(folder, pieces, {piece.path: stamp for piece, stamp in found.values()}, len(missing), damaged)


def _make(
    parts: list[SegmentPart], chat: ChatTokenizer, data: Data, folder: Path, processes: int
) -> Iterator[tuple[SegmentPart, tuple[Piece, Stamp]]]:
    """Tokenises parts, here and by processes that end with this one."""
    processes = min(processes, len(parts) // MIN_PARTS_A_PROCESS)
    if processes < 2:
        for part in parts:
            yield part, make_piece(part, chat, data, folder)
        return
    context = get_context("spawn")  # what tokenised or read Parquet once does not survive a fork
    with ProcessPoolExecutor(processes - 1, context, _begin_process, (os.getpid(),)) as pool:
        part_of = {
            pool.submit(_make_in_process, part, chat.name, chat.fingerprint, data, folder): part for part in parts
        }
        waiting = set(part_of)
        try:
            for future in reversed(part_of):  # this process takes from the end what nobody has begun
                if future.cancel():
                    waiting.discard(future)
                    yield part_of[future], make_piece(part_of[future], chat, data, folder)
                done, waiting = wait(waiting, timeout=0)
                yield from ((part_of[other], other.result()) for other in done)
            for future in as_completed(waiting):
                yield part_of[future], future.result()
        except BrokenProcessPool:
            raise TrainingError("a process that tokenised was killed; started again, the run goes on there") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_process(parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its processes


def _make_in_process(
    part: SegmentPart, tokenizer: str, fingerprint: str, data: Data, folder: Path
) -> tuple[Piece, Stamp]:
    chat = load_chat_tokenizer(tokenizer)
    assert chat.fingerprint == fingerprint, "the tokenizer's folder holds another one by now"
    return make_piece(part, chat, data, folder)


def _sweep(folder: Path) -> None:
    """Removes what writers that were killed left behind."""
    for path in folder.glob(".*.new"):
        try:
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink()
        except FileNotFoundError:
            continue  # another run has swept it
