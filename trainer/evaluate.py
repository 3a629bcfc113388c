"""What a run does on the held-out conversations: the loss on their target tokens, as often as asked.

Each evaluation is a line of `evaluations.jsonl`. Sums of single conversations go to `evaluation/losses-step-N.jsonl`,
so that two runs can be compared conversation by conversation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from trainer.batches import validation_batches
from trainer.config import TrainConfig
from trainer.loss import LanguageModelLoss
from trainer.parallel import sum_over_ranks
from trainer.records import append_line, event
from trainer.vectors import Vectors

EVALUATIONS = "evaluations.jsonl"


@dataclass(frozen=True)
class Evaluator:
    """Looks at the held-out conversations of one run."""

    config: TrainConfig
    vectors: Vectors
    run_dir: Path
    micro_rows: int
    device: torch.device

    @torch.no_grad()
    def __call__(self, model: LanguageModelLoss, step: int) -> float | None:
        """Evaluates after a step, on all ranks; returns the validation loss, None where nothing is held out."""
        if not self.vectors.validation:
            return None
        model.eval()
        line = {"step": step, **self._validation_loss(model)}
        model.train()
        if distributed.get_rank() == 0:
            append_line(self.run_dir / EVALUATIONS, line)
            event(self.run_dir, f"validation loss {line['validation_loss']:.4f}", **line)
        return float(line["validation_loss"])

    def _validation_loss(self, model: LanguageModelLoss) -> dict[str, Any]:
        """Mean loss over the held-out target tokens."""
        loss_sum, targets = 0.0, 0
        for batch in validation_batches(
            self.vectors,
            micro_rows=self.micro_rows,
            capacity=self.config.row_tokens,
            rank=distributed.get_rank(),
            world=distributed.get_world_size(),
        ):
            targets += batch.target_tokens
            for micro in batch.micro_batches:
                loss_sum += float(model(*(tensor.to(self.device) for tensor in micro)).sum())
        (total,) = sum_over_ranks(loss_sum)
        return {"validation_loss": total / targets, "target_tokens": targets}
