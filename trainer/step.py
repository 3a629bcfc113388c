"""One optimiser step of a rank: gradients of the step's mean loss, their norm, and what is done with them."""

from dataclasses import dataclass

import torch
from torch import distributed

from trainer.batches import Batch
from trainer.beacon import Beacon, Phase
from trainer.config import TrainConfig
from trainer.loss import LanguageModelLoss
from trainer.optim import LossScale, clip_gradients
from trainer.parallel import sum_over_ranks


@dataclass(frozen=True)
class Found:
    """What a step's gradients are like, over all ranks."""

    loss: float
    """Mean per target token."""
    grad_norm: float
    """Unscaled, before clipping."""
    skipped: bool
    """They overflow under the loss scale, and are not applied."""
    votes: float
    """Ranks that ask for an end."""


class Stepper:
    """Takes the steps of a run."""

    def __init__(
        self, config: TrainConfig, model: LanguageModelLoss, optimizer: torch.optim.Optimizer, scale: LossScale,
        device: torch.device, beacon: Beacon,
    ) -> None:  # fmt: skip
        self._config, self._model, self._optimizer, self._scale = config, model, optimizer, scale
        self._device, self._beacon = device, beacon
        self._rank, self._world = distributed.get_rank(), distributed.get_world_size()

    def gradients(self, batch: Batch, step: int, asks_to_stop: bool) -> Found:
        """Computes and clips them; the only waiting for a GPU is for the numbers that are told."""
        seed = self._config.run.seed + step * 1_000_003 + self._rank
        torch.manual_seed(seed % 2**63)  # what is dropped out is the same in a run that goes on
        loss_sum = self._accumulate(batch, step)
        grad_norm = clip_gradients(self._model, self._config.optim.max_grad_norm, self._scale.value)
        total, votes = sum_over_ranks(float(loss_sum), float(asks_to_stop))
        loss = total / max(1, batch.target_tokens)
        return Found(loss, grad_norm, self._scale.skips(loss, grad_norm), votes)

    def apply(self, lr: float, skipped: bool) -> None:
        """Moves the weights, unless the step is skipped."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if not skipped:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._scale.update(skipped)

    def _accumulate(self, batch: Batch, step: int) -> torch.Tensor:
        """Scaled gradients of the mean loss per target token of the whole step; returns this rank's sum of losses."""
        # FSDP averages over ranks; the sum of all ranks' losses is to be divided by the step's own target tokens.
        factor = self._scale.value * self._world / max(1, batch.target_tokens)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        last = len(batch.micro_batches) - 1
        for index, micro in enumerate(batch.micro_batches):
            self._beacon.beat(Phase.STEP, step, index)
            self._model.set_requires_gradient_sync(index == last)  # an FSDP module's method
            num_targets = int((micro[2] != -100).sum())
            tensors = (tensor.to(self._device, non_blocking=True) for tensor in micro)
            loss = self._model(*tensors, num_targets=num_targets).sum()
            (loss * factor).backward()
            loss_sum += loss.detach().double()
        return loss_sum
