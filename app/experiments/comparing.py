"""The numbers of an experiment's report on one set of conversations: each run's, and what differs between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl

from app.experiments.set_scores import ScoredRun, SetScores
from trainer.evaluation import paired

TESTED_SHARE = 0.1
"""Of the targets that a shorter length cuts: fewer, and the data says nothing of the lengths."""
ENOUGH_SEEDS = 3
"""From so many on a report speaks of settings, not of runs."""


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but their seeds."""

    name: str
    settings: dict[str, Any]
    budget: str
    runs: list[int]
    """Ordinals, in the order of the seeds."""


def compare_set(
    scores: SetScores, arms: Sequence[Arm], pairs: Sequence[tuple[Arm, Arm]], by: Sequence[str]
) -> dict[str, Any]:
    """The report of one set."""
    runs = {run.ordinal: run for run in scores.runs}
    lengths = sorted({run.source_length for run in scores.runs})
    shortest_reply = min(run.target_length for run in scores.runs)
    targets = scores.targets
    is_long = (targets["history_tokens"] > lengths[0]).to_numpy()
    parts = {"all": np.ones(len(targets), np.bool_), "longer_history": is_long, "shorter_history": ~is_long}
    return {
        "name": scores.name,
        "conversations": scores.num_conversations,
        "targets": len(targets),
        "targets_left_out": scores.num_targets_of_any - len(targets),
        "target_tokens": int(targets["tokens"].sum()),
        "source_lengths": lengths,
        "longer_history": _share(is_long, lengths[0], len(lengths) > 1),
        "longer_reply": _share(
            (targets["reply_tokens"] > shortest_reply).to_numpy(), shortest_reply,
            len({run.target_length for run in scores.runs}) > 1,
        ),
        "runs": [_of_run(scores, run, parts) for run in scores.runs],
        "comparisons": [_compared(scores, left, right, runs, parts, len(pairs)) for left, right in pairs],
        "by": {tag: _by_tag(scores, tag) for tag in by},
    }  # fmt: skip


def _share(is_beyond: np.ndarray, length: int, varies: bool) -> dict[str, Any]:
    """How many targets are beyond the shortest of the lengths compared, and whether that tests the lengths."""
    share = float(is_beyond.mean()) if len(is_beyond) else 0.0
    return {
        "than": length, "targets": int(is_beyond.sum()), "share": share, "compared": varies,
        "tested": varies and share >= TESTED_SHARE,
    }  # fmt: skip


def _of_run(scores: SetScores, run: ScoredRun, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    others = sorted(run.losses["source_length"].unique())
    return {
        "ordinal": run.ordinal,
        "loss": scores.loss(run, run.source_length),
        "loss_longer_history": scores.loss(run, run.source_length, parts["longer_history"]),
        "loss_shorter_history": scores.loss(run, run.source_length, parts["shorter_history"]),
        "loss_by_source_length": {str(length): scores.loss(run, length) for length in others},
        "text": scores.text_scores(run.column(run.source_length)),
        "text_by_source_length": {
            str(length): scores.text_scores(run.column(length))
            for length in others
        },
    }  # fmt: skip


def _compared(
    scores: SetScores, left: Arm, right: Arm, runs: dict[int, ScoredRun], parts: dict[str, np.ndarray], num_pairs: int
) -> dict[str, Any]:
    """Two arms' differences, the right one's number less the left one's."""
    sides = [[runs[ordinal] for ordinal in arm.runs if ordinal in runs] for arm in (left, right)]
    found: dict[str, Any] = {"left": left.runs, "right": right.runs, "names": [left.name, right.name]}
    for name, where in parts.items():
        if not where.any():
            continue
        drawn = [np.mean([scores.drawn_losses(run, where) for run in side], axis=0) for side in sides]
        values = [[scores.loss(run, run.source_length, where) or 0.0 for run in side] for side in sides]
        found["loss" if name == "all" else f"loss_{name}"] = _difference(drawn, values, num_pairs)
    found["bleu"] = {}
    for language in scores.replies["language"].unique().sort():
        drawn = [np.mean([scores.drawn_bleu(run, language) for run in side], axis=0) for side in sides]
        values = [[float(scores.drawn_bleu(run, language)[-1]) for run in side] for side in sides]
        found["bleu"][language] = _difference([one[:-1] for one in drawn], values, num_pairs)
    return found


def _difference(drawn: list[np.ndarray], values: list[list[float]], num_pairs: int) -> dict[str, Any]:
    of_conversations = paired.difference(drawn[0], drawn[1], float(np.mean(values[1]) - np.mean(values[0])), num_pairs)
    seeds = min(map(len, values))
    of_seeds = paired.over_seeds([right - left for left, right in zip(values[0], values[1], strict=False)])
    return {
        "difference": of_conversations.value,
        "interval": [of_conversations.low, of_conversations.high],
        "interval_over_seeds": None if of_seeds is None else [of_seeds.low, of_seeds.high],
        "seeds": seeds,
        "beyond_noise": of_conversations.is_beyond_noise
        and (of_seeds is None or seeds < ENOUGH_SEEDS or of_seeds.is_beyond_noise),
    }


def _by_tag(scores: SetScores, tag: str) -> list[dict[str, Any]]:
    """Loss and BLEU of the targets of each value, the most frequent first; a conversation may have several crowds."""
    values = {row: _values(user, tag) for row, user in scores.rows.select("row", "user").iter_rows()}
    found = []
    for value in sorted({one for of_row in values.values() for one in of_row}):
        rows = [row for row, of_row in values.items() if value in of_row]
        where = scores.targets["row"].is_in(rows)
        if where.any():
            conversations = scores.targets.filter(where)["conversation"].n_unique()
            runs = [_of_slice(scores, run, where.to_numpy(), rows) for run in scores.runs]
            found.append({"value": value, "targets": int(where.sum()), "conversations": conversations, "runs": runs})
    return sorted(found, key=lambda one: (-one["targets"], one["value"]))


def _values(user: str, tag: str) -> list[str]:
    value = (orjson.loads(user) or {}).get(tag)
    return ([str(one) for one in value] if isinstance(value, list) else [str(value)]) if value else ["unknown"]


def _of_slice(scores: SetScores, run: ScoredRun, where: np.ndarray, rows: list[int]) -> dict[str, Any]:
    text = scores.text_scores(run.column(run.source_length), pl.col("row").is_in(rows))
    bleu = {language: {"bleu": one["bleu"], "replies": one["replies"]} for language, one in text.items()}
    return {"ordinal": run.ordinal, "loss": scores.loss(run, run.source_length, where), "bleu": bleu}
