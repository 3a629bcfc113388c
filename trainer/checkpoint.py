"""Checkpoints: sharded, atomic, resumable on another number of ranks, written while the next steps go on.

`checkpoints/step-N/` holds the shards and their checksums, `progress.json`, where the run was, and `quality.json`, the
facts that decide whether it is a good one. What bears that name is whole and on the disk.
"""

import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from trainer.checked_files import disappear
from trainer.config import TrainConfig
from trainer.loss import LanguageModelLoss
from trainer.records import DamagedCheckpointError, TrainingError, write_json
from trainer.recovery.verdicts import is_good

PROGRESS, QUALITY, SUMS = "progress.json", "quality.json", "sums.json"
CHUNK_BYTES = 1 << 24
TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)
"""Weights that are never changed are not kept: a resumed run has them from the base."""


@dataclass(frozen=True)
class Progress:
    """Where a run is, beside its weights and moments."""

    step: int = 0
    rows: int = 0
    """The row cursor: so many rows of the run's order were taken."""
    loss_scale: float = 1.0
    good_steps: int = 0
    """Steps since the loss scale changed."""


class Checkpoints:
    """A run's checkpoints: one at a time is written, by a thread of each rank."""

    def __init__(
        self, run_dir: Path, config: TrainConfig, model: LanguageModelLoss, optimizer: torch.optim.Optimizer
    ) -> None:
        self._run_dir, self._config, self._model, self._optimizer = run_dir, config, model, optimizer
        self._first = distributed.get_rank() == 0
        self._group = distributed.new_group(backend="gloo")  # a save's messages must not meet those of the steps
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._running: Future[None] | None = None
        self.best = best_of(read_qualities(run_dir))
        """Step and validation loss of the best one."""
        on_gpu = torch.cuda.is_available()
        self._stager = DefaultStager(StagingOptions(on_gpu, False, False, on_gpu))
        if self._first:
            for left_over in (run_dir / "checkpoints").glob(".step-*"):
                shutil.rmtree(left_over)

    def save(self, progress: Progress, quality: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Copies the state and has it written; one that is still being written is waited for.

        Raises:
            TrainingError: this one or the one before cannot be written.
        """
        self.wait()
        if self.would_be_best(loss := quality["validation_loss"]):
            self.best = progress.step, loss
        model_state, optimizer_state = get_state_dict(self._model, self._optimizer, options=TRAINED)
        state = self._stager.stage({"model": _learned(self._model, model_state), "optim": optimizer_state})
        assert isinstance(state, dict)
        self._running = self._thread.submit(self._write, state, progress, dict(quality), list(history))
        if not self._config.checkpoint.asynchronous:
            self.wait()

    def would_be_best(self, validation_loss: float | None) -> bool:
        """Whether a checkpoint with this loss would be the best one."""
        return validation_loss is not None and (self.best is None or validation_loss < self.best[1])

    def check(self) -> None:
        """Raises what went wrong with a save that has ended."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the save that is being written.

        Raises:
            TrainingError: it cannot be written, for want of room for example; those before it stay.
        """
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def load(self, step: int) -> Progress:
        """Puts a checkpoint's weights and moments into place; returns where it was.

        Raises:
            DamagedCheckpointError: a file of it is not what was written.
        """
        folder = _folder(self._run_dir, step)
        sums = json.loads((folder / SUMS).read_text("utf-8"))
        for name in sorted(sums)[distributed.get_rank() :: distributed.get_world_size()]:
            if not (folder / name).exists() or _sum_of(folder / name) != sums[name]:
                raise DamagedCheckpointError(
                    f"the checkpoint of step {step} is damaged: {name} is not what was written"
                )
        model_state, optimizer_state = get_state_dict(self._model, self._optimizer, options=TRAINED)
        state = {"model": _learned(self._model, model_state), "optim": optimizer_state}
        try:
            dcp.load(state, checkpoint_id=folder)
        except CheckpointException as error:
            raise DamagedCheckpointError(f"the checkpoint of step {step} cannot be read: {error}") from None
        set_state_dict(
            self._model, self._optimizer,
            model_state_dict=state["model"], optim_state_dict=state["optim"], options=TRAINED,
        )  # fmt: skip
        return Progress(**json.loads((_folder(self._run_dir, step) / PROGRESS).read_text("utf-8")))

    def load_model(self, step: int) -> None:
        """Puts a checkpoint's weights into place."""
        state = {"model": _learned(self._model, get_model_state_dict(self._model, options=TRAINED))}
        dcp.load(state, checkpoint_id=_folder(self._run_dir, step))
        set_model_state_dict(self._model, state["model"], options=TRAINED)

    def _write(
        self,
        state: dict[str, Any],
        progress: Progress,
        quality: dict[str, Any],
        history: list[Mapping[str, Any]],
    ) -> None:
        """Writes under a temporary name; in the thread, on all ranks alike."""
        final = _folder(self._run_dir, progress.step)
        temporary = final.with_name(f".{final.name}.new")
        if self._first:
            shutil.rmtree(temporary, ignore_errors=True)
        is_finite = torch.tensor(float(_is_finite(state)))
        distributed.all_reduce(is_finite, distributed.ReduceOp.MIN, group=self._group)
        try:
            dcp.save(state, checkpoint_id=temporary, process_group=self._group)
        except CheckpointException as error:  # no Exception, and on every rank; its own message does not say why
            rank, (cause, _) = next(iter(error.failures.items()))
            raise TrainingError(self._reason(progress.step, cause, f"process {rank}; ")) from None
        mine = {path.name: _sum_of(path) for path in temporary.glob(f"__{distributed.get_rank()}_*")}
        sums: list[dict[str, int]] = [{}] * distributed.get_world_size()
        distributed.all_gather_object(sums, mine, group=self._group)
        reason: list[str | None] = [None]
        if self._first:
            quality["finite"] = quality["finite"] and bool(is_finite)
            try:
                of_all = {name: value for part in sums for name, value in part.items()}
                write_json(temporary / SUMS, {**of_all, ".metadata": _sum_of(temporary / ".metadata")})
                self._complete(temporary, final, progress, quality)
                self._prune(history)
            except OSError as error:
                reason = [self._reason(progress.step, error)]
        distributed.broadcast_object_list(reason, src=0, group=self._group)
        if reason[0] is not None:
            raise TrainingError(reason[0])

    def _complete(self, temporary: Path, final: Path, progress: Progress, quality: dict[str, Any]) -> None:
        """Forces all to disk, then gives it its name."""
        write_json(temporary / PROGRESS, asdict(progress))
        write_json(temporary / QUALITY, quality)
        _force_to_disk(*temporary.iterdir(), temporary)
        if final.exists():
            disappear(final)
        temporary.rename(final)
        _force_to_disk(final.parent)

    def _reason(self, step: int, cause: object, where: str = "") -> str:
        free = shutil.disk_usage(self._run_dir).free // 1_000_000
        return f"the checkpoint of step {step} cannot be written: {cause} ({where}{free} MB are free)"

    def _prune(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the newest, step 0, the newest good one, and the one of the best validation loss."""
        qualities = read_qualities(self._run_dir)
        done = sorted(qualities)
        good = [step for step in done if is_good(qualities[step], self._config.recovery, history).good]
        best = best_of(qualities)
        kept = {0, *done[-self._config.checkpoint.keep :], *good[-1:], *([best[0]] if best else [])}
        for step in done:
            if step not in kept:
                disappear(_folder(self._run_dir, step))


def load_weights(folder: Path, model: LanguageModelLoss) -> None:
    """A checkpoint's weights into an unsharded model, in one process."""
    state = {"model": _learned(model, get_model_state_dict(model, options=TRAINED))}
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    set_model_state_dict(model, state["model"], options=TRAINED)


def _learned(model: LanguageModelLoss, state: Mapping[str, Any]) -> dict[str, Any]:
    """Without the other names of frozen weights that are tied, which torch leaves in."""
    frozen = {name for name, weight in model.named_parameters(remove_duplicate=False) if not weight.requires_grad}
    return {name: tensor for name, tensor in state.items() if name not in frozen}


def read_qualities(run_dir: Path) -> dict[int, dict[str, Any]]:
    """By step, what the complete checkpoints' `quality.json` say."""
    paths = (run_dir / "checkpoints").glob(f"step-*/{QUALITY}")
    return {int(path.parent.name.removeprefix("step-")): json.loads(path.read_text("utf-8")) for path in paths}


def best_of(qualities: Mapping[int, Mapping[str, Any]]) -> tuple[int, float] | None:
    """Step and loss of the checkpoint with the smallest validation loss; None where none was measured."""
    measured = [
        (float(quality["validation_loss"]), step)
        for step, quality in qualities.items()
        if quality.get("validation_loss") is not None
    ]
    return (min(measured)[1], min(measured)[0]) if measured else None


def _is_finite(state: object) -> bool:
    """Whether all numbers of this rank's part are."""
    if isinstance(state, dict):
        return all(_is_finite(value) for value in state.values())
    if isinstance(state, list | tuple):
        return all(_is_finite(value) for value in state)
    if not isinstance(state, torch.Tensor):
        return True
    local = state.to_local() if hasattr(state, "to_local") else state
    return bool(torch.isfinite(local).all())


def _force_to_disk(*paths: Path) -> None:
    """What bears its name must be whole after a power cut too."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sum_of(path: Path) -> int:
    """CRC-32 of a file: against a disk's mistakes, not against anybody's intent."""
    value = 0
    with path.open("rb") as file:
        while part := file.read(CHUNK_BYTES):
            value = zlib.crc32(part, value)
    return value


def _folder(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step}"
