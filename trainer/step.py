"""One optimiser step of a rank: gradients of the step's mean loss, their norm, and what is done with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.loss import LanguageModelLoss
from trainer.optim import LossScale, clip_gradients
from trainer.parallel import sum_over_ranks
from trainer.recovery.beacon import Beacon, Phase


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
    loss_scale: float
    sources: dict[str, dict[str, float | int | None]]
    """Loss and target tokens of each version, where several are mixed."""

    def facts(self) -> dict[str, Any]:
        """What a line of the metrics says of it; JSON knows no infinity."""
        return {
            "loss": self.loss,
            "grad_norm": None if self.skipped else self.grad_norm,
            "loss_scale": self.loss_scale,
            **({"skipped": True} if self.skipped else {}),
            **({"sources": self.sources} if self.sources else {}),
        }


class Stepper:
    """Takes the steps of a run."""

    def __init__(
        self, config: TrainConfig, model: LanguageModelLoss, optimizer: torch.optim.Optimizer, scale: LossScale,
        device: torch.device, beacon: Beacon, sources: Sequence[str],
    ) -> None:  # fmt: skip
        self._config, self._model, self._optimizer, self._scale = config, model, optimizer, scale
        self._device, self._beacon, self._sources = device, beacon, sources
        self._rank, self._world = distributed.get_rank(), distributed.get_world_size()

    def gradients(self, batch: Batch, step: int, asks_to_stop: bool) -> Found:
        """Computes and clips them; the only waiting for a GPU is for the numbers that are told."""
        seed = self._config.run.seed + step * 1_000_003 + self._rank
        torch.manual_seed(seed % 2**63)  # what is dropped out is the same in a run that goes on
        losses_S, targets_S = self._accumulate(batch, step)
        grad_norm = clip_gradients(self._model, self._config.optim.max_grad_norm, self._scale.value)
        *sums, votes = sum_over_ranks(*losses_S.tolist(), *targets_S.tolist(), float(asks_to_stop))
        losses, targets = sums[: len(self._sources)], sums[len(self._sources) :]
        loss = sum(losses) / max(1, batch.target_tokens)
        sources = {
            name: {"loss": of_source / count if count else None, "target_tokens": int(count)}
            for name, of_source, count in zip(self._sources, losses, targets, strict=True)
        }
        skipped, sources = self._scale.skips(loss, grad_norm), sources if len(sources) > 1 else {}
        return Found(loss, grad_norm, skipped, votes, self._scale.value, sources)

    def apply(self, lr: float, skipped: bool) -> None:
        """Moves the weights, unless the step is skipped."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        if not skipped:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._scale.update(skipped)

    def _accumulate(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled gradients of the mean loss per target token; returns this rank's sums of losses and of targets.

        Both by source, S of them.
        """
        # FSDP averages over ranks; the sum of all ranks' losses is to be divided by the step's own target tokens.
        factor = self._scale.value * self._world / max(1, batch.target_tokens)
        losses_S = torch.zeros(len(self._sources), dtype=torch.float64, device=self._device)
        targets_S = torch.zeros(len(self._sources), dtype=torch.int64)
        last = len(batch.micro_batches) - 1
        for index, (micro, sources) in enumerate(zip(batch.micro_batches, batch.sources, strict=True)):
            self._beacon.beat(Phase.STEP, step, index)
            self._model.set_requires_gradient_sync(index == last)  # an FSDP module's method
            targets_B = (micro[2] != -100).sum(1)
            tensors = (tensor.to(self._device, non_blocking=True) for tensor in micro)
            counts = {"num_targets": int(targets_B.sum()), "num_samples": int((micro[1] == 0).sum())}
            losses_B = self._model(*tensors, **counts)
            (losses_B.sum() * factor).backward()
            source_B = torch.tensor(
                [*sources, *[0] * (len(targets_B) - len(sources))]
            )  # rows that fill up learn nothing
            targets_S.index_add_(0, source_B, targets_B)
            losses_S.index_add_(0, source_B.to(self._device, non_blocking=True), losses_B.detach().double())
        return losses_S, targets_S
