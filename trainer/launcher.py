"""From settings to a finished run directory: prepares the data, starts the ranks by torchrun, tells how it ended."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import ConfigError, TrainConfig, load_config
from trainer.data.scratch_tokenizer import scratch_tokenizer
from trainer.data.vectorising import CODE_VERSION, cache_root, vectorise
from trainer.data.vectors import Vectors, hand_over
from trainer.data.version import DatasetVersion, check_bounds, open_version
from trainer.dialogues import DialogueError
from trainer.nodes import Node, announce, await_attempt, this_node
from trainer.rank import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SUCCEEDED
from trainer.ranks import run_ranks
from trainer.records import TrainingError, drop_torn_line, event, write_json
from trainer.recovery.cure import CannotCureError, Patient, cure
from trainer.recovery.faults import DATA_KINDS, Fault
from trainer.reward.preferences import as_versions
from trainer.run_lock import RunLock
from trainer.schedule import resolve


def launch(config_path: Path, run_dir: Path, nproc: int | None = None) -> int:
    """Runs a fine-tune to its end, or goes on with one that exists; returns the exit status.

    Raises:
        ConfigError: the settings, the version or the base cannot be used.
    """
    config = load_config(config_path)
    if nproc is not None:
        config = config.model_copy(update={"run": config.run.model_copy(update={"nproc": nproc})})
    config = as_versions(config, run_dir)
    version = open_version(config.data.version)
    check_bounds(version, config.data.max_source_length, config.data.max_target_length)
    if config.model.base is not None:
        from trainer.structure.model import check_base

        check_base(Path(config.model.base), config.sample_tokens)
    node = this_node(config)
    if node.rank > 0:
        return _follow(run_dir, node)
    RunLock(run_dir).own()
    if _finished(run_dir):
        return EXIT_SUCCEEDED
    _drop_torn_lines(run_dir)
    (run_dir / "result.json").unlink(missing_ok=True)
    try:
        config, vectors = _prepare(config, version, run_dir)
    except (TrainingError, OSError) as error:
        return _fail(run_dir, str(error))
    return _run(run_dir, config, node, version, vectors)


def _prepare(config: TrainConfig, version: DatasetVersion, run_dir: Path) -> tuple[TrainConfig, Vectors]:
    """Tokenizer, token vectors, resolved settings and manifest of a run."""
    chat = open_tokenizer(config, version, run_dir / "tokenizer")
    with _progress() as on_progress:
        vectors = vectorise(version, chat, config, processes=len(os.sched_getaffinity(0)), on_progress=on_progress)
    if not hand_over(vectors, run_dir) and (run_dir / "metrics.jsonl").exists():
        event(run_dir, "the data is not what the run began with: rows may come twice or not at all", level="warning")
    segment_tokens = {"segment_tokens": vectors.segment_tokens}
    config = config.model_copy(update={"data": config.data.model_copy(update=segment_tokens)})
    _tell(chat, vectors, run_dir)
    if vectors.num_rows == 0:
        raise TrainingError("no reply to learn: no target token is left in the version under these settings")
    resolved = resolve(config, num_rows=vectors.num_rows, num_gpus=_num_gpus(), sample_tokens=vectors.sample_tokens)
    write_json(run_dir / "config.json", resolved.model_dump(mode="json"))
    world_size = int(resolved.run.nproc) * resolved.run.nnodes
    manifest = {
        "data_digest": version.digest,
        "talkmill": installed("talkmill"),
        "vectors": CODE_VERSION,
        "world_size": world_size,
    }
    write_json(run_dir / "manifest.json", manifest)
    return resolved, vectors


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar of the tokenising, where somebody looks at a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("tokenising", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def open_tokenizer(config: TrainConfig, version: DatasetVersion, folder: Path) -> ChatTokenizer:
    """The run's tokenizer, kept in `folder`: the base's own, or one trained on the version's text.

    Raises:
        ConfigError: the base's tokenizer cannot be used.
    """
    if not (folder / "tokenizer_config.json").exists():
        if config.model.base is not None:
            try:
                load_chat_tokenizer(config.model.base).save(folder)
            except DialogueError as error:
                raise ConfigError(f"model.base: {error}") from None
        else:
            assert config.model.scratch is not None
            size = config.model.scratch.sizes["vocab_size"]
            scratch_tokenizer(version, size, cache_root(version, config)).save(folder)
    return load_chat_tokenizer(str(folder))


def _tell(chat: ChatTokenizer, vectors: Vectors, run_dir: Path) -> None:
    event(run_dir, "tokenizer ready", entries=chat.vocab_size, template="own" if chat.has_own_template else "ChatML")
    if chat.default_system is not None:
        event(run_dir, "the template adds a system prompt of its own", system=chat.default_system)
    splits: dict[str, Any] = {
        name: {
            "rows": sum(segment.rows for segment in segments),
            "tokens": sum(segment.tokens for segment in segments),
            "target_tokens": sum(segment.target_tokens for segment in segments),
        }
        for name, segments in (("train", vectors.train), ("validation", vectors.validation))
    }
    event(run_dir, "token vectors reused" if vectors.reused else "token vectors made", **splits, **vectors.facts)


def _run(run_dir: Path, config: TrainConfig, node: Node, version: DatasetVersion, vectors: Vectors) -> int:
    """Runs the ranks to the run's end, and again after each fault that can be cured."""
    while True:
        announce(run_dir)
        ended = run_ranks(run_dir, config, node)
        if (result := _result(run_dir)) is not None:
            return _status(result)
        if ended.interrupted:  # before the loop began: nothing was done that a checkpoint could hold
            return EXIT_INTERRUPTED
        fault = ended.fault or Fault("stop", "the processes ended without a result", 0)
        _drop_torn_lines(run_dir)
        try:
            ended_at = time.time()
            if fault.kind in ("cache", *DATA_KINDS):  # what was read may not be what was written
                vectors = vectorise(version, load_chat_tokenizer(str(run_dir / "tokenizer")), config)
                hand_over(vectors, run_dir)
                if not vectors.reused:
                    fault = replace(fault, kind="cache", reason=f"{fault.reason}; files of the token cache had changed")
            cure(Patient(run_dir, config, vectors, ended_at), fault)
        except (CannotCureError, TrainingError, OSError) as error:
            return _fail(run_dir, str(error))


def _follow(run_dir: Path, node: Node) -> int:
    """Runs this machine's ranks whenever the first machine begins an attempt, until it says how the run ended."""
    attempt = None
    while (attempt := await_attempt(run_dir, attempt)) is not None:
        ended = run_ranks(run_dir, load_config(run_dir / "config.json"), node)
        if ended.interrupted:
            return EXIT_INTERRUPTED
    return _status(_result(run_dir))


def _status(result: dict[str, str] | None) -> int:
    statuses = {"succeeded": EXIT_SUCCEEDED, "interrupted": EXIT_INTERRUPTED}
    return statuses.get(result["status"], EXIT_FAILED) if result is not None else EXIT_FAILED


def _fail(run_dir: Path, reason: str) -> int:
    with contextlib.suppress(OSError):  # where the disk is full
        write_json(run_dir / "result.json", {"status": "failed", "error": reason})
        event(run_dir, reason, level="error")
    print(f"Error: {reason}", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED


def _drop_torn_lines(run_dir: Path) -> None:
    for name in ("metrics.jsonl", "events.jsonl", "evaluations.jsonl"):
        drop_torn_line(run_dir / name)


def _result(run_dir: Path) -> dict[str, str] | None:
    with contextlib.suppress(OSError):
        result: dict[str, str] = json.loads((run_dir / "result.json").read_text("utf-8"))
        return result
    return None


def _finished(run_dir: Path) -> bool:
    result = _result(run_dir)
    return result is not None and result["status"] == "succeeded" and (run_dir / "model").is_dir()


def _num_gpus() -> int:
    if "torch" not in sys.modules and not Path("/dev/nvidiactl").exists():
        return 0
    import torch

    return torch.cuda.device_count()
