"""One row at a time, forwards and backwards from a checkpoint's weights: what the probe does with its suspects."""

import math
import os
from pathlib import Path

import torch
from torch import distributed

from trainer.blocks import prepare_blocks
from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.checkpoint import load_weights
from trainer.config import load_config
from trainer.data.batches import batches
from trainer.data.vectors import take_over
from trainer.objectives import objective_of
from trainer.parallel import full, shard, this_device
from trainer.recovery.cure import micro_tokens
from trainer.recovery.detours import read_detours
from trainer.recovery.faults import sentence
from trainer.recovery.probe import NUM_CONTROLS, Suspect, Task, Trial
from trainer.structure.model import build, load_structure

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Rows:
    """The rows of some steps, and the model that they are tried on.

    Made in a process that tries nothing, whose copies begin with it as it was.
    """

    def __init__(self, run_dir: Path, task: Task) -> None:
        torch.set_num_threads(1)  # threads do not come along into a copy
        self._config = load_config(run_dir / "config.json")
        chat = load_chat_tokenizer(str(run_dir / "tokenizer"))
        self._vectors = take_over(run_dir)
        self._detours = read_detours(run_dir)
        self._micro_tokens = micro_tokens(run_dir, self._config)
        self._task = task
        self._tensors: dict[tuple[str, int], list[Tensors]] = {}
        """One for each row, but for a whole conversation, which takes as many packed ones as it needs."""
        self._device = torch.device("cpu")
        objective = objective_of(self._config)
        whole = build(self._config, load_structure(self._config, chat), chat)
        self._model = objective.loss(objective.make_model(whole, self._config))
        checkpoint = run_dir / "checkpoints" / f"step-{task.checkpoint}"
        if checkpoint.exists():  # else the run begins anew, with the weights as they were built
            load_weights(checkpoint, self._model)
        self.suspects = self._taken(*task.rows)
        """The rows in question, in the run's order."""
        self.controls = self._controls(NUM_CONTROLS)
        """Rows that were learned last before the checkpoint; at the beginning, rows from far behind the suspects."""

    def begin(self) -> None:
        """In a copy, before the first attempt: the model as the run has it, but in one process."""
        torch.set_num_threads(os.cpu_count() or 1)
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        self._device = this_device()
        prepare_blocks(self._model, self._config, self._device, self._micro_tokens)
        self._model = shard(self._model.to(self._device), self._config, self._device).train()

    @property
    def dies_of_errors(self) -> bool:
        """Whether the process is of no use after an error."""
        return self._device.type == "cuda"

    def _controls(self, count: int) -> list[Suspect]:
        if self._task.learned:
            return self._taken(max(0, self._task.learned - count), self._task.learned)
        far = self._task.rows[1] + self._vectors.num_rows // 2
        suspects = {row[:2] for row in self.suspects}
        return [row for row in dict.fromkeys(self._taken(far, far + 2 * count)) if row[:2] not in suspects][:count]

    def samples(self, row: Suspect) -> list[Suspect]:
        """A row's samples, by their places in the row as it was packed; none of a conversation, which goes whole."""
        segment, place, _ = row
        if self._vectors.packs_steps is not None:
            return []
        out = self._detours.samples_out(segment, place, self._task.learned)
        count = len(_starts(self._tensors[segment, place][0]))
        return [(segment, place, index) for index in range(count + len(out)) if index not in out]

    def attempt(self, suspect: Suspect, control: bool) -> Trial:
        """Loss per target token, and the norm of its gradient; an exception is the trial's error."""
        segment, place, sample = suspect
        parts = self._tensors[segment, place]
        if sample is not None:
            index = [s for _, _, s in self.samples((segment, place, None))].index(sample)
            parts = [_slice(parts[0], index)]
        targets = sum(int((labels != -100).sum()) for _, _, labels in parts)
        if targets == 0:
            return Trial(suspect, control, None, None)
        try:
            loss = 0.0
            for tensors in parts:
                of_part = self._model(*(tensor.to(self._device) for tensor in tensors)).sum() / targets
                of_part.backward()
                loss += float(of_part.detach())
            norm = full(torch.nn.utils.clip_grad_norm_(self._model.parameters(), math.inf)).item()
            return Trial(suspect, control, loss, norm)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            return Trial(suspect, control, None, None, sentence(error))
        finally:
            self._model.zero_grad(set_to_none=True)

    def _taken(self, first: int, last: int) -> list[Suspect]:
        """The rows between two cursors, kept to be tried."""
        stream = batches(
            self._vectors, rows_of_steps=[1] * (last - first), micro_rows=1, capacity=self._config.row_tokens,
            seed=self._config.run.seed, start=first, rank=0, world=1, detours=self._detours,
        )  # fmt: skip
        taken: list[Suspect] = []
        for batch in stream:
            address = batch.addresses[0][0]
            self._tensors[address] = batch.micro_batches
            taken.append((*address, None))
        return taken


def _starts(tensors: Tensors) -> list[int]:
    """Where a row's samples begin."""
    starts = (tensors[1][0] == 0).nonzero()[:, 0].tolist()
    learned = int((tensors[2][0] != -100).nonzero()[-1]) if bool((tensors[2][0] != -100).any()) else 0
    return [start for start in starts if start <= learned]  # what pads a row begins behind the last target


def _slice(tensors: Tensors, index: int) -> Tensors:
    """One sample of a row, alone."""
    starts = [*_starts(tensors), tensors[1].shape[1]]
    ends = (tensors[1][0] == 0).nonzero()[:, 0].tolist()
    end = min((other for other in ends if other > starts[index]), default=tensors[1].shape[1])
    part = slice(starts[index], end)
    ids, positions, labels = (tensor[:, part] for tensor in tensors)
    return ids, positions, labels
