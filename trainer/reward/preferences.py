"""Preferences: which of two replies is the better one, as a version whose rows are pairs, and a pair as a sample.

A pair's row has the messages, then both replies, the chosen one first. Its sample is both dialogues, one behind the
other, each followed by a verdict: a token that comes too late to be seen, 1 behind the chosen reply and 0 behind the
rejected one. So a pair is packed, split, shuffled, left out and resumed like any other sample.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import ConfigError, TrainConfig
from trainer.data.version import FORMAT, DatasetVersion, open_version
from trainer.dialogues import EncodedRow, Lengths, Message, encode_window, make_windows
from trainer.records import write_json

REJECTED, CHOSEN = 0, 1
"""Verdicts, as token ids: every tokenizer has these two."""
FIELD = "data.preferences"
BATCH_ROWS = 1_000
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int64())]))
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("conversation_id", pa.string()),
        ("window", pa.int64()),
        ("messages", _MESSAGES),
        ("user", pa.struct([("id", pa.string())])),
        ("characters", pa.int64()),
        ("cut_replies", pa.list_(pa.int64())),
    ]
)


def encode_pair(chat: ChatTokenizer, messages: Sequence[Message], lengths: Lengths) -> EncodedRow:
    """A pair's sample.

    Raises:
        DialogueError: the chat template refuses the messages.
    """
    *history, chosen, rejected = messages
    ids: list[int] = []
    is_target: list[bool] = []
    for reply, verdict in ((chosen, CHOSEN), (rejected, REJECTED)):
        (window,) = make_windows(chat, [*history, reply], lengths, targets="last")
        shown = encode_window(chat, window.messages, lengths.max_target_length)
        if not shown.ids:
            return EncodedRow()
        ids += [*shown.ids, verdict]
        is_target += [False] * len(shown.ids) + [True]
    return EncodedRow(ids, is_target)


def as_versions(config: TrainConfig, run_dir: Path) -> TrainConfig:
    """The settings with versions, made in the run directory, in place of files of preferences; others as they are.

    Raises:
        ConfigError: as `open_preferences`.
    """
    data, paths = config.data, {}
    if data.preferences is None:
        return config
    paths["version"] = open_preferences(Path(data.preferences), run_dir / "preferences").folder
    if data.validation is not None:
        folder = run_dir / "validation"
        paths["validation"] = open_preferences(Path(data.validation), folder, "data.validation", "held-out").folder
    made = {field: str(folder / "manifest.json") for field, folder in paths.items()}
    return config.model_copy(update={"data": data.model_copy(update=made)})


def open_preferences(path: Path, folder: Path, field: str = FIELD, name: str = "pair") -> DatasetVersion:
    """Makes a version of a file of preferences, in `folder`, or opens the one that was made of it there.

    `field` is the setting that names the file, `name` what its pairs' ids begin with.

    Raises:
        ConfigError: the file cannot be read, or has no pair to learn from.
    """
    try:
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ConfigError(f"{field}: cannot read {path}: {error.strerror}") from None
    manifest = folder / "manifest.json"
    if not manifest.exists() or open_version(str(manifest), field).digest != digest:
        _write(path, digest, folder, field, name)
    return open_version(str(manifest), field)


def _write(path: Path, digest: str, folder: Path, field: str, name: str) -> None:
    segment = folder / "segments" / "0.parquet"
    segment.parent.mkdir(parents=True, exist_ok=True)
    counts = {"pairs": 0, "refused": 0}
    with pq.ParquetWriter(segment, _SCHEMA, compression="zstd") as writer:
        pairs = _rows(path, counts, field, name)
        while rows := list(islice(pairs, BATCH_ROWS)):
            writer.write_batch(pa.RecordBatch.from_pylist(rows, _SCHEMA))
    if not counts["pairs"]:
        raise ConfigError(f"{field}: no record of {path.name} has messages, a chosen and another, rejected reply")
    content = segment.read_bytes()
    part = {
        "path": "segments/0.parquet", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
        "rows": counts["pairs"],
    }  # fmt: skip
    body = {"format": FORMAT, "digest": digest, "bounds": None, "counts": counts, "segments": [part]}
    write_json(folder / "manifest.json", body)


def _rows(path: Path, counts: dict[str, int], field: str, name: str) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(_records(path, field)):
        messages = _messages(record)
        if messages is None:
            counts["refused"] += 1
            continue
        counts["pairs"] += 1
        yield {
            "id": f"{name}-{number}",
            "conversation_id": f"{name}-{number}",
            "window": 0,
            "messages": messages,
            "user": None,
            "characters": sum(len(message["content"]) for message in messages),
            "cut_replies": None,
        }


def _records(path: Path, field: str) -> Iterator[Any]:
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
        file.seek(0)
        if not is_parquet:
            for line in file:
                if line.strip():
                    try:
                        yield orjson.loads(line)
                    except orjson.JSONDecodeError:
                        yield None
            return
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(BATCH_ROWS, columns=["messages", "chosen", "rejected"]):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{field}: cannot read {path.name}: {error}") from None


def _messages(record: Any) -> list[Message] | None:
    """The dialogue with both replies behind it; None where the record is no pair, or its replies are the same."""
    if not isinstance(record, dict) or not isinstance(record.get("messages"), list):
        return None
    said = [one for one in record["messages"] if isinstance(one, dict)]
    history: list[Message] = [
        {"role": one["role"], "content": one["content"]}
        for one in said
        if isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
    ]
    chosen, rejected = _reply(record.get("chosen")), _reply(record.get("rejected"))
    is_whole = len(history) == len(record["messages"]) and any(one["role"] == "user" for one in history)
    if not is_whole or not chosen or not rejected or chosen == rejected:
        return None
    return [*history, {"role": "assistant", "content": chosen}, {"role": "assistant", "content": rejected}]


def _reply(given: Any) -> str | None:
    """A reply's text: given as it is, as a message, or as messages of which it is the last."""
    if isinstance(given, list) and given:
        given = given[-1]
    if isinstance(given, dict):
        given = given.get("content")
    return given if isinstance(given, str) and given.strip() else None
