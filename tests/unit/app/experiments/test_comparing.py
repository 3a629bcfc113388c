"""The numbers of a report, on scores that were made so that they are known."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from app.experiments.comparing import Arm, compare_set
from app.experiments.conclusions import conclude
from app.experiments.set_scores import ScoredRun, SetScores
from trainer.evaluation.target_scores import LOSSES, REPLIES

CONVERSATIONS, TURNS, TOKENS = 40, 3, 10
HISTORY = (30, 60, 90)
"""Tokens before each of a conversation's replies."""
REPLY = "您的话费是三十元，请放心。"


def rows() -> pl.DataFrame:
    messages = [
        turn
        for _ in range(TURNS)
        for turn in ({"role": "user", "content": "话费？"}, {"role": "assistant", "content": REPLY})
    ]
    users = [{"gender": "female", "crowd": ["parent", "vip"]}, {"gender": "male"}, {}, None]
    return pl.DataFrame(
        {
            "row": pl.Series(range(CONVERSATIONS), dtype=pl.Int32),
            "conversation_id": [f"c{row}" for row in range(CONVERSATIONS)],
            "user": [json.dumps(users[row % 4]) for row in range(CONVERSATIONS)],
            "messages": [messages] * CONVERSATIONS,
        }
    )


def scored(
    ordinal: int, length: int, *, better: Sequence[float] = (0, 0, 0), said: str | None = REPLY, seed: int = 0,
    tokenizer: str = "t", left_out: Sequence[int] = (),
) -> ScoredRun:  # fmt: skip
    """A run whose losses are 2 a token and a little noise of its own, less `better` by the reply's place."""
    rng = np.random.default_rng(seed)
    losses: list[tuple[Any, ...]] = []
    for row in range(CONVERSATIONS):
        hardness = 2 + 0.5 * np.random.default_rng(row).normal()
        for place in range(TURNS):
            for at in (50, 100):
                loss = TOKENS * (hardness - better[place] + 0.05 * rng.normal())
                if row not in left_out:
                    losses.append((row, 2 * place + 1, at, loss, TOKENS, len(REPLY), HISTORY[place], TOKENS))
    replies = [] if said is None else [(row, 1, at, said) for row in range(CONVERSATIONS) for at in (50, 100)]
    frames = [
        pl.DataFrame(values, pl.Schema(zip(names.names, pl.from_arrow(names.empty_table()).dtypes, strict=True)), orient="row")
        for values, names in ((losses, LOSSES), (replies, REPLIES))
    ]  # fmt: skip
    return ScoredRun(ordinal, length, 64, tokenizer, *frames)


def compared(runs: Sequence[ScoredRun], arms: Sequence[Arm] | None = None, by: Sequence[str] = ()) -> dict[str, Any]:
    arms = arms or [Arm(f"max_source_length {run.source_length}", {}, "epochs", [run.ordinal]) for run in runs]
    scores = SetScores("held out", rows(), runs, 3, per_token=len({run.tokenizer for run in runs}) == 1)
    return compare_set(scores, arms, [(arms[0], arms[1])], by)


def test_a_difference_shows_where_it_comes_from() -> None:
    found = compared([scored(0, 50), scored(1, 100, better=(0, 0.3, 0.3), seed=1)])
    assert (found["targets"], found["conversations"], found["target_tokens"]) == (120, 40, 1200)
    assert found["longer_history"]["share"] == pytest.approx(2 / 3)
    (pair,) = found["comparisons"]
    assert pair["loss"]["beyond_noise"] and pair["loss"]["difference"] == pytest.approx(-0.2, abs=0.02)
    assert pair["loss_longer_history"]["difference"] == pytest.approx(-0.3, abs=0.02)
    assert not pair["loss_shorter_history"]["beyond_noise"]
    assert pair["bleu"]["zh"]["difference"] == 0 and not pair["bleu"]["zh"]["beyond_noise"]


def test_bleu_is_of_replies_that_differ() -> None:
    found = compared([scored(0, 50), scored(1, 100, said="您的流量是三十元，请放心。")])
    (pair,) = found["comparisons"]
    assert pair["bleu"]["zh"]["difference"] < -10 and pair["bleu"]["zh"]["beyond_noise"]
    assert found["runs"][0]["text"]["zh"]["bleu"] == pytest.approx(100)
    assert set(found["runs"][0]["text_by_source_length"]) == {"50", "100"}


def test_only_targets_count_that_every_run_has() -> None:
    found = compared([scored(0, 50, left_out=[3]), scored(1, 100, seed=1)])
    assert (found["targets"], found["targets_left_out"], found["conversations"]) == (117, 3, 39)


def test_nothing_generated_and_other_tokenizers_are_compared_by_loss_alone() -> None:
    found = compared([scored(0, 50, said=None), scored(1, 100, said=None, tokenizer="u", better=(0.5,) * 3)])
    assert found["comparisons"][0]["bleu"] == {}
    assert found["runs"][0]["loss"] == pytest.approx(2 * TOKENS / len(REPLY), abs=0.2), "per character"


def test_seeds_that_disagree_are_noise_however_sure_each_is() -> None:
    runs = [
        *(scored(n, 50, seed=n) for n in range(3)),
        *(scored(3 + n, 100, seed=9 + n, better=(by,) * 3) for n, by in enumerate((0.5, -0.4, 0.1))),
    ]
    arms = [Arm("short", {}, "epochs", [0, 1, 2]), Arm("long", {}, "epochs", [3, 4, 5])]
    loss = compared(runs, arms)["comparisons"][0]["loss"]
    assert loss["interval"][1] < 0, "over conversations there is a difference"
    assert loss["interval_over_seeds"][1] > 0 and not loss["beyond_noise"]
    alike = [runs[n] if n < 3 else scored(n, 100, seed=n, better=(0.3,) * 3) for n in range(6)]
    assert compared(alike, arms)["comparisons"][0]["loss"]["beyond_noise"]


def test_tags_have_counts_and_several_crowds_count_in_each() -> None:
    by = compared([scored(0, 50), scored(1, 100)], by=["gender", "crowd"])["by"]
    assert {one["value"]: (one["conversations"], one["targets"]) for one in by["gender"]} == {
        "female": (10, 30), "male": (10, 30), "unknown": (20, 60)
    }  # fmt: skip
    assert {one["value"]: one["conversations"] for one in by["crowd"]} == {"parent": 10, "vip": 10, "unknown": 30}
    assert by["gender"][0]["runs"][0]["bleu"]["zh"]["replies"] == 20


def test_few_long_histories_do_not_test_lengths() -> None:
    one = compared([scored(0, 50), scored(1, 100, better=(0.3, 0, 0))])
    one["longer_history"] = {"than": 50, "targets": 3, "share": 0.025, "compared": True, "tested": False}
    sentences = conclude({"unit": "token", "sets": [one]})
    assert any("source lengths are not tested by this data" in sentence for sentence in sentences)
    assert any("too few" in sentence for sentence in sentences), "40 replies"
    assert any("these runs, not of the settings" in sentence for sentence in sentences)
