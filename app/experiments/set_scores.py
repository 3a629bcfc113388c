"""What runs of an experiment did on the same held-out replies.

Only targets count that every run has a loss of, at every source length, so that no number is of other replies than the
one beside it. Losses are per token where all runs have one tokenizer, else per character.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from trainer.evaluation import paired
from trainer.evaluation.text_scores import Compared, language_of, score

KEY = ["row", "turn"]


@dataclass(frozen=True)
class ScoredRun:
    """A run with its scores."""

    ordinal: int
    source_length: int
    target_length: int
    tokenizer: str
    losses: pl.DataFrame
    """As `trainer.evaluation.target_scores` writes them."""
    replies: pl.DataFrame

    def column(self, source_length: int) -> str:
        """What the run's replies at a source length are called."""
        return f"run_{self.ordinal}" + ("" if source_length == self.source_length else f"_at_{source_length}")


@dataclass(frozen=True)
class SetScores:
    """All runs on one set of conversations."""

    name: str
    rows: pl.DataFrame
    """Of the targets file: `row`, `conversation_id`, `user`, `messages`."""
    runs: Sequence[ScoredRun]
    seed: int
    per_token: bool
    _bleu: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)

    @cached_property
    def targets(self) -> pl.DataFrame:
        """The common targets, with `conversation`, a number, and `history_tokens`, `reply_tokens` of the first run."""
        common = self._losses_of(self.runs[0], self.runs[0].source_length)
        for run in self.runs:
            for length in run.losses["source_length"].unique():
                other = self._losses_of(run, length)
                keys = [*KEY, "tokens"] if self.per_token else [*KEY, "characters"]
                common = common.join(other.select(keys), on=keys, how="semi")
        codes = self.rows.select("row", pl.col("conversation_id").rank("dense").cast(pl.Int64) - 1)
        named = common.join(codes.rename({"conversation_id": "conversation"}), on="row").sort(KEY)
        dense = named["conversation"].rank("dense").cast(pl.Int64) - 1
        return named.with_columns(dense.alias("conversation"))

    @property
    def num_conversations(self) -> int:
        """Of the common targets."""
        return self.targets["conversation"].n_unique()

    @cached_property
    def drawn(self) -> np.ndarray:
        """The conversations of each draw, the same for all runs."""
        return paired.draw(self.num_conversations, self.seed)

    @property
    def units(self) -> np.ndarray:
        """What a loss is divided by, of each target."""
        return self.targets["tokens" if self.per_token else "characters"].to_numpy().astype(float)

    def loss_sums(self, run: ScoredRun, length: int) -> np.ndarray:
        """Of the common targets, in their order."""
        found = self.targets.select(KEY).join(self._losses_of(run, length), on=KEY, how="left", maintain_order="left")
        return found["loss_sum"].to_numpy()

    def loss(self, run: ScoredRun, length: int, where: np.ndarray | None = None) -> float | None:
        """A run's loss a unit at a source length, of all targets or some; None where there are none."""
        sums, units = self.loss_sums(run, length), self.units
        if where is not None:
            sums, units = sums[where], units[where]
        return float(sums.sum() / units.sum()) if units.sum() else None

    def drawn_losses(self, run: ScoredRun, where: np.ndarray) -> np.ndarray:
        """A run's loss at its own length in each draw."""
        codes, size = self.targets["conversation"].to_numpy()[where], self.num_conversations
        sums = np.bincount(codes, self.loss_sums(run, run.source_length)[where], size)
        return paired.mean_losses(self.drawn, sums, np.bincount(codes, self.units[where], size))

    # ---- generated replies -----------------------------------------------------------------------------------------

    @cached_property
    def replies(self) -> pl.DataFrame:
        """Replies that every run generated: `reference`, `language`, `conversation`, and a column for each run.

        `run_N` is the reply at the run's own source length, `run_N_at_L` at another.
        """
        said = self.rows.select("row", "conversation_id", "messages")
        found: pl.DataFrame | None = None
        for run in self.runs:
            for length in sorted(run.losses["source_length"].unique()):
                name = run.column(length)
                mine = run.replies.filter(pl.col("source_length") == length).select(*KEY, generated=pl.col("generated"))
                mine = mine.rename({"generated": name})
                found = mine if found is None else found.join(mine, on=KEY)
        assert found is not None
        texts = found.join(said, on="row").sort(KEY)
        references = [row["messages"][row["turn"]]["content"] for row in texts.iter_rows(named=True)]
        conversation = texts["conversation_id"].rank("dense").cast(pl.Int64) - 1
        return texts.with_columns(
            conversation.alias("conversation"),
            pl.Series("reference", references, pl.String),
            pl.Series("language", [language_of(text) for text in references], pl.String),
        )

    def text_scores(self, column: str, where: pl.Expr | None = None) -> dict[str, dict[str, Any]]:
        """BLEU with its interval and chrF of a column of replies, by language, with sacreBLEU's signatures."""
        rows = self.replies if where is None else self.replies.filter(where)
        found = score([compared for _, compared in _pairs(rows, column)], seed=self.seed)
        return {
            language: {
                "bleu": one.bleu, "interval": [one.low, one.high], "chrf": one.chrf, "replies": one.replies,
                "conversations": one.conversations, "too_few_replies": one.is_too_small,
                "bleu_signature": one.bleu_signature, "chrf_signature": one.chrf_signature,
            }
            for language, one in found.items()
        }  # fmt: skip

    def drawn_bleu(self, run: ScoredRun, language: str) -> np.ndarray:
        """A run's BLEU in each draw; the last number is that of all replies."""
        if (run.ordinal, language) not in self._bleu:
            rows = self.replies.filter(pl.col("language") == language)
            places, replies = zip(*_pairs(rows, f"run_{run.ordinal}"), strict=True)
            size = int(self.replies["conversation"].max() or 0) + 1  # type: ignore[arg-type]
            counts = paired.counts_by_conversation(replies, places, size, language)
            drawn = np.vstack([paired.draw(size, self.seed), np.ones(size, np.int64)])
            self._bleu[run.ordinal, language] = paired.bleu_scores(drawn, counts)
        return self._bleu[run.ordinal, language]

    @property
    def num_targets_of_any(self) -> int:
        """Those of the run that has a loss of the most."""
        return max(len(self._losses_of(run, run.source_length)) for run in self.runs)

    def _losses_of(self, run: ScoredRun, length: int) -> pl.DataFrame:
        mine = pl.col("source_length") == length
        return run.losses.filter(mine).join(self.rows.select("row"), on="row", how="semi").drop("source_length")


def _pairs(rows: pl.DataFrame, column: str) -> list[tuple[int, Compared]]:
    """Of each reply, the number of its conversation, and what was said beside what was generated."""
    columns = rows.select("conversation", "conversation_id", "reference", column)
    return [(code, Compared(name, reference, text)) for code, name, reference, text in columns.iter_rows()]
