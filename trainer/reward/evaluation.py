"""How well a reward model tells held-out pairs: the share ordered as they were chosen, beside what length alone does.

`evaluation/pairs-step-N.jsonl` has every held-out pair's scores, and lengths in characters.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import distributed

from trainer.data.version import open_version
from trainer.evaluation.evaluate import EVALUATIONS, FOLDER, Evaluator, gather, write_lines
from trainer.intervals import wilson
from trainer.loss import LanguageModelLoss
from trainer.parallel import sum_over_ranks
from trainer.records import append_line, event
from trainer.reward.model import RewardLoss

SURE = math.log(0.8 / 0.2)
"""Difference of scores from which a model is sure: the better reply wins with a probability of 0.8."""


@dataclass(frozen=True)
class RewardEvaluator(Evaluator):
    """Looks at the held-out pairs of one run."""

    @torch.no_grad()
    def __call__(self, model: LanguageModelLoss, step: int) -> float | None:
        """Evaluates after a step, on all ranks; returns the validation loss, None where nothing is held out."""
        if not self.vectors.validation:
            return None
        assert isinstance(model, RewardLoss)
        model.eval()
        pairs = dict(gather(self._score_pairs(model)))
        model.train()
        facts = self._facts(pairs, step) if distributed.get_rank() == 0 else {"validation_loss": 0.0}
        (loss,) = sum_over_ranks(facts["validation_loss"])
        return loss

    def _score_pairs(self, model: RewardLoss) -> list[tuple[str, list[float]]]:
        """Scores of this rank's pairs, the chosen reply's first."""
        found: list[tuple[str, list[float]]] = []
        for batch in self.held_out():
            for micro, addresses in zip(batch.micro_batches, batch.addresses, strict=True):
                scores = model.scores(*(tensor.to(self.device) for tensor in micro)).tolist()
                names = [row for address in addresses for row, _ in self._names[address]]
                found += [(name, scores[2 * place : 2 * place + 2]) for place, name in enumerate(names)]
        return found

    def _facts(self, pairs: dict[str, list[float]], step: int) -> dict[str, Any]:
        """Figures of one evaluation, which go to the run's records."""
        rows = []
        held_out = open_version(self.config.data.validation or self.config.data.version)
        for row in held_out.find(pairs.keys()):
            chosen, rejected = (len(message["content"]) for message in row.messages[-2:])
            scores = dict(zip(("chosen", "rejected"), pairs[row.id], strict=True))
            rows.append({"pair": row.id, **scores, "chosen_chars": chosen, "rejected_chars": rejected})
        write_lines(self.run_dir / FOLDER / f"pairs-step-{step}.jsonl", rows)
        facts = {"step": step, **pairwise(rows)}
        append_line(self.run_dir / EVALUATIONS, facts)
        low, high = facts["accuracy_interval"]
        told = (
            f"{facts['accuracy']:.1%} of {facts['pairs']} held-out pairs are ordered as chosen, 95 % interval "
            f"{low:.1%} to {high:.1%}; the longer reply is the chosen one in {facts['longer_wins']:.1%}"
        )
        event(self.run_dir, told, **facts)
        return facts


def pairwise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy on pairs with its 95 % interval, what length alone would have, and how scores go with length.

    A draw is half right. `contradicted` is the share that the model is sure of the other way round. The correlation is
    Spearman's, of scores and lengths of all the replies.
    """
    chosen, rejected = (np.array([row[name] for row in rows]) for name in ("chosen", "rejected"))
    lengths = [np.array([row[name] for row in rows]) for name in ("chosen_chars", "rejected_chars")]
    accuracy = _wins(chosen, rejected)
    return {
        "validation_loss": float(np.logaddexp(0, rejected - chosen).mean()),
        "pairs": len(rows),
        "accuracy": accuracy,
        "accuracy_interval": list(wilson(accuracy, len(rows))),
        "contradicted": float((rejected - chosen > SURE).mean()),
        "longer_wins": _wins(*lengths),
        "length_correlation": _rank_correlation(np.concatenate([chosen, rejected]), np.concatenate(lengths)),
    }


def _wins(left: np.ndarray, right: np.ndarray) -> float:
    return float(((left > right) + 0.5 * (left == right)).mean())


def _rank_correlation(left: np.ndarray, right: np.ndarray) -> float | None:
    """None where either has one value only."""
    if len(set(left.tolist())) < 2 or len(set(right.tolist())) < 2:
        return None
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places in order; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
