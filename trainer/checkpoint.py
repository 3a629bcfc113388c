"""Checkpoints: sharded, atomic, resumable on another number of ranks; the newest complete one wins.

`checkpoints/step-N/` holds the shards and `quality.json`, the facts that decide whether it is a good one.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from trainer.loss import LanguageModelLoss
from trainer.records import TrainingError, write_json

QUALITY = "quality.json"


def save(
    run_dir: Path,
    step: int,
    model: LanguageModelLoss,
    optimizer: torch.optim.Optimizer,
    quality: dict[str, Any],
    keep: int,
) -> None:
    """Writes a checkpoint of all ranks under a temporary name, then renames it; prunes old ones, never step 0.

    Raises:
        TrainingError: it cannot be written, for want of room for example; those before it stay.
    """
    final = _folder(run_dir, step)
    temporary = final.with_name(f".{final.name}.new")
    if distributed.get_rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    distributed.barrier()
    model_state, optimizer_state = get_state_dict(model, optimizer)
    try:
        dcp.save({"model": model_state, "optim": optimizer_state}, checkpoint_id=temporary)
    except CheckpointException as error:  # no Exception; its own message does not say why
        rank, (cause, _) = next(iter(error.failures.items()))
        free = shutil.disk_usage(run_dir).free // 1_000_000
        reason = f"the checkpoint of step {step} cannot be written: {cause} (process {rank}; {free} MB are free)"
        raise TrainingError(reason) from None
    distributed.barrier()
    if distributed.get_rank() == 0:
        write_json(temporary / QUALITY, quality)
        _force_to_disk(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        for old in [step for step in steps(run_dir) if step != 0][:-keep]:
            shutil.rmtree(_folder(run_dir, old))
    distributed.barrier()


def load(run_dir: Path, step: int, model: LanguageModelLoss, optimizer: torch.optim.Optimizer) -> None:
    """Puts a checkpoint's weights and moments into place."""
    model_state, optimizer_state = get_state_dict(model, optimizer)
    state = {"model": model_state, "optim": optimizer_state}
    dcp.load(state, checkpoint_id=_folder(run_dir, step))
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optim"])


def load_weights(folder: Path, model: LanguageModelLoss) -> None:
    """A checkpoint's weights into an unsharded model, in one process."""
    state = {"model": model.state_dict()}
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    model.load_state_dict(state["model"])


def steps(run_dir: Path) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    folders = (run_dir / "checkpoints").glob("step-*")
    return sorted(int(folder.name.removeprefix("step-")) for folder in folders if (folder / QUALITY).exists())


def _force_to_disk(folder: Path) -> None:
    """What bears its name must be whole after a power cut too."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _folder(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step}"
