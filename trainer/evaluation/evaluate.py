"""What a run does on the held-out conversations: the loss on their target tokens, and how near its replies come.

Each evaluation is a line of `evaluations.jsonl`. `evaluation/losses-step-N.jsonl` has the sums of single conversations,
so that two runs can be compared conversation by conversation; `evaluation/samples-step-N.jsonl` has the replies that
were generated, greedily, each after what was really said before it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import TrainConfig
from trainer.data.batches import Address, Batch, validation_batches
from trainer.data.vectors import Vectors
from trainer.data.version import open_version
from trainer.dialogues import truncate_prompt
from trainer.evaluation.decoding import generate
from trainer.evaluation.held_out import Reply, choose_replies, most_frequent_replies, sample_names
from trainer.evaluation.text_scores import Compared, Score, language_of, score
from trainer.loss import LanguageModelLoss
from trainer.parallel import sum_over_ranks
from trainer.records import append_line, event

EVALUATIONS = "evaluations.jsonl"
FOLDER = "evaluation"
SHOWN_TURNS = 4
"""Turns before a reply that its sample shows."""


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
        line = {"step": step, **self._validation_loss(model, step)}
        scores = self._generate_and_score(model, step) if self._is_due(step) else {}
        model.train()
        if distributed.get_rank() == 0:
            append_line(self.run_dir / EVALUATIONS, {**line, **scores})
            event(self.run_dir, f"validation loss {line['validation_loss']:.4f}", **line)
            for language in scores.get("bleu", {}):
                event(
                    self.run_dir, _sentence(language, scores), step=step, **{k: v[language] for k, v in scores.items()}
                )
        return float(line["validation_loss"])

    def _is_due(self, step: int) -> bool:
        """Whether replies are generated: in the end, and at the first evaluation from each `bleu_every_steps` on."""
        evaluate = self.config.evaluate
        if evaluate.bleu_samples == 0 or step == self.config.run.max_steps:
            return evaluate.bleu_samples > 0
        if evaluate.bleu_every_steps == "end":
            return False
        assert isinstance(evaluate.every_steps, int), "the launcher resolves it"
        return step // evaluate.bleu_every_steps > (step - evaluate.every_steps) // evaluate.bleu_every_steps

    def _validation_loss(self, model: LanguageModelLoss, step: int) -> dict[str, Any]:
        """Mean loss over the held-out target tokens; the sums of conversations go to their file."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        seen_V = torch.zeros(self.chat.vocab_size, dtype=torch.int64)
        for batch in self.held_out():
            for (ids, positions, labels), addresses in zip(batch.micro_batches, batch.addresses, strict=True):
                micro = (tensor.to(self.device) for tensor in (ids, positions, labels))
                losses_S = model(*micro, by_sample=True).double().tolist()
                is_target_T = labels.flatten() != -100
                seen_V += torch.bincount(labels.flatten()[is_target_T], minlength=len(seen_V))
                sample_T = (positions == 0).flatten().cumsum(0) - 1
                targets_S = torch.bincount(sample_T[is_target_T], minlength=len(losses_S)).tolist()
                for conversation, sample in self._samples(positions, addresses):
                    sums[conversation][0] += losses_S[sample]
                    sums[conversation][1] += targets_S[sample]
        loss_sum, targets = sum_over_ranks(*(sum(values[part] for values in sums.values()) for part in (0, 1)))
        distributed.all_reduce(seen_V)
        self._write_losses(sums, step)
        return {
            "validation_loss": loss_sum / targets,
            "target_tokens": int(targets),
            "unigram_entropy": _entropy(seen_V),
        }

    def held_out(self) -> Iterator[Batch]:
        """This rank's part of the held-out rows."""
        return validation_batches(
            self.vectors, micro_rows=self.micro_rows, capacity=self.config.row_tokens, rank=distributed.get_rank(),
            world=distributed.get_world_size(),
        )  # fmt: skip

    @property
    def chat(self) -> ChatTokenizer:
        """The run's tokenizer."""
        return load_chat_tokenizer(str(self.run_dir / "tokenizer"))

    @cached_property
    def _names(self) -> dict[Address, list[tuple[str, str]]]:
        return sample_names(self.vectors)

    def _samples(self, positions: torch.Tensor, addresses: Iterable[Address]) -> Iterable[tuple[str, int]]:
        """Conversation and number of each sample of a micro-batch; numbers count what pads a row too."""
        begins = (positions == 0).sum(1).tolist()
        first = 0
        for address, num_begins in zip(addresses, begins, strict=False):
            for number, (_, conversation) in enumerate(self._names[address]):
                yield conversation, first + number
            first += num_begins

    def _write_losses(self, sums: dict[str, list[float]], step: int) -> None:
        """Sums of conversations, by id; the windows of one may have been on several ranks."""
        gathered = gather(sorted(sums.items()))
        if distributed.get_rank() == 0:
            total: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for conversation, (loss_sum, targets) in gathered:
                total[conversation][0] += loss_sum
                total[conversation][1] += targets
            rows = [
                {"conversation_id": conversation, "loss_sum": loss_sum, "target_tokens": int(targets)}
                for conversation, (loss_sum, targets) in sorted(total.items())
            ]
            write_lines(self.run_dir / FOLDER / f"losses-step-{step}.jsonl", rows)

    @cached_property
    def _replies(self) -> list[Reply]:
        version = open_version(self.config.data.validation or self.config.data.version)
        wanted = self.config.evaluate.bleu_samples
        return choose_replies(
            version, self._names.values(), self.config.data, count=wanted, seed=self.config.validation_seed
        )  # fmt: skip

    @cached_property
    def _most_frequent(self) -> list[str]:
        """In place of each generated reply, the most frequent one of its language in the training data."""
        by_language = most_frequent_replies(self.vectors, self.chat)
        return [by_language.get(language_of(reply.text), "") for reply in self._replies]

    def _generate_and_score(self, model: LanguageModelLoss, step: int) -> dict[str, Any]:
        """Scores by language, on rank 0; replies go to their file."""
        max_new_tokens, budget = self.config.evaluate.max_new_tokens, self.config.data.max_source_length
        assert isinstance(max_new_tokens, int), "the launcher resolves it"
        prompts = [truncate_prompt(self.chat, reply.history, budget) for reply in self._replies]
        mine = generate(model, prompts, ends=self.chat.eos_ids, max_new_tokens=max_new_tokens)
        generated = dict(gather([(place, self.chat.decode(ids)) for place, ids in mine.items()]))
        if distributed.get_rank() != 0:
            return {}
        texts = [generated[place] for place in range(len(prompts))]
        write_lines(
            self.run_dir / FOLDER / f"samples-step-{step}.jsonl",
            [
                {
                    "conversation_id": reply.conversation_id,
                    "turn": reply.turn,
                    "history": [
                        {"role": said["role"], "content": said["content"]} for said in reply.history[-SHOWN_TURNS:]
                    ],
                    "reference": reply.text,
                    "generated": text,
                }
                for reply, text in zip(self._replies, texts, strict=True)
            ],
        )
        return _as_json(self._score(texts), self._score(self._most_frequent))

    def _score(self, texts: list[str]) -> dict[str, Score]:
        pairs = zip(self._replies, texts, strict=True)
        compared = [Compared(reply.conversation_id, reply.text, text) for reply, text in pairs]
        return score(compared, seed=self.config.run.seed)


def last_evaluation(run_dir: Path) -> dict[str, Any] | None:
    """The newest line of `evaluations.jsonl`."""
    path = run_dir / EVALUATIONS
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else None


def _as_json(scores: dict[str, Score], of_most_frequent: dict[str, Score]) -> dict[str, dict[str, Any]]:
    """Scores as they stand in `evaluations.jsonl`, each by language."""
    return {
        "bleu": {language: one.bleu for language, one in scores.items()},
        "bleu_interval": {language: [one.low, one.high] for language, one in scores.items()},
        "bleu_most_frequent_reply": {language: one.bleu for language, one in of_most_frequent.items()},
        "chrf": {language: one.chrf for language, one in scores.items()},
        "replies": {language: one.replies for language, one in scores.items()},
        "conversations": {language: one.conversations for language, one in scores.items()},
        "too_few_replies": {language: one.is_too_small for language, one in scores.items()},
        "bleu_signature": {language: one.bleu_signature for language, one in scores.items()},
        "chrf_signature": {language: one.chrf_signature for language, one in scores.items()},
    }


def _sentence(language: str, scores: dict[str, dict[str, Any]]) -> str:
    of = {name: values[language] for name, values in scores.items()}
    low, high = of["bleu_interval"]
    few = ": too few to tell models apart" if of["too_few_replies"] else ""
    return (
        f"BLEU {of['bleu']:.1f} ({language}), 95 % interval {low:.1f} to {high:.1f}, of {of['replies']} replies in "
        f"{of['conversations']} conversations{few}; the most frequent reply alone: {of['bleu_most_frequent_reply']:.1f}"
    )


def _entropy(counts_V: torch.Tensor) -> float:
    """Entropy of counted tokens in nats: the loss of who knows only how frequent each of them is."""
    shares_V = counts_V[counts_V > 0].double() / counts_V.sum()
    return float(-(shares_V * shares_V.log()).sum())


def gather(values: list[Any]) -> list[Any]:
    """The values of all ranks, on rank 0."""
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.gather_object(values, gathered if distributed.get_rank() == 0 else None)
    return [value for of_rank in gathered for value in of_rank or []]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    temporary.replace(path)
