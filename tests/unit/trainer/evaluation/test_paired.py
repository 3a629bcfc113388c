"""The paired bootstrap: equals are seldom called different, what differs is found, and BLEU is sacreBLEU's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from trainer.evaluation.paired import bleu_scores, counts_by_conversation, difference, draw, mean_losses, over_seeds
from trainer.evaluation.text_scores import Compared, score


@given(st.lists(st.lists(st.integers(0, 30), min_size=8, max_size=8), min_size=1, max_size=6))
def test_bleu_of_a_draw_is_that_of_sacrebleu(made: list[list[int]]) -> None:
    counts = np.array([[max(t), max(c), *np.minimum(c, t), *t] for c, t in ((n[:4], n[4:]) for n in made)])
    totals = counts.sum(0)
    ours = bleu_scores(np.ones((1, len(counts)), np.int64), counts)[0]
    theirs = BLEU.compute_bleu(totals[2:6].tolist(), totals[6:].tolist(), int(totals[0]), int(totals[1]), "exp")
    assert ours == pytest.approx(theirs.score, abs=1e-9)


def test_all_conversations_drawn_once_give_the_score_of_the_replies() -> None:
    replies = [Compared(f"c{n % 3}", f"话费是{n}元，请放心。", f"话费是{n * 2}元。") for n in range(12)]
    counts = counts_by_conversation(replies, [n % 3 for n in range(12)], 3, "zh")
    assert bleu_scores(np.ones((1, 3), np.int64), counts)[0] == pytest.approx(score(replies, seed=0)["zh"].bleu)


def test_equals_are_seldom_called_different_and_others_are() -> None:
    rng = np.random.default_rng(1)
    called = 0
    for number in range(60):
        units = rng.integers(20, 200, 120).astype(float)
        hardness = rng.normal(3, 1, 120)
        left, right = (units * (hardness + rng.normal(0, 0.2, 120)) for _ in range(2))
        drawn = draw(120, number)
        of_both = [mean_losses(drawn, one, units) for one in (left, right)]
        called += difference(*of_both, 0.0, 1).is_beyond_noise
        better = mean_losses(drawn, left - 0.15 * units, units)
        assert difference(of_both[0], better, -0.15, 1).high < 0
    assert called <= 8, "about one in twenty"


def test_more_comparisons_want_more_of_each() -> None:
    rng = np.random.default_rng(2)
    left, right = rng.normal(0, 1, 4000), rng.normal(1, 1, 4000)
    one, ten = (difference(left, right, 1.0, number) for number in (1, 10))
    assert ten.low < one.low < one.high < ten.high


def test_seeds_speak_of_settings_only_together() -> None:
    assert over_seeds([0.4]) is None
    two = over_seeds([0.4, 0.5])
    assert two is not None and not two.is_beyond_noise
    three = over_seeds([0.4, 0.45, 0.5])
    assert three is not None and three.is_beyond_noise
    assert three.value == pytest.approx(0.45)
