"""Whether models differ by more than chance would have them: paired bootstrap over conversations.

Turns and replies of one conversation depend on each other, so whole conversations are drawn anew, the same ones for all
models (Koehn, 2004, for BLEU; the same for losses). Each model then has a number for every draw, and two models differ
by the difference of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.metrics import BLEU

from trainer.evaluation.text_scores import TOKENIZERS, Compared, counts_of

RESAMPLES = 4000
MAX_NGRAM = 4
NOISE = 0.05
"""Share of comparisons of equals that may be called different, over all comparisons of a kind together."""
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % for 1 to 9 degrees of freedom; beyond, 2.2 is no less than it."""


@dataclass(frozen=True)
class Difference:
    """How much larger the right one's number is."""

    value: float
    low: float
    high: float

    @property
    def is_beyond_noise(self) -> bool:
        """Whether the interval leaves no doubt which is the larger."""
        return self.low > 0 or self.high < 0


def draw(num_conversations: int, seed: int) -> np.ndarray:
    """How often each conversation is in each draw, of shape (draws, conversations)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_conversations, np.full(num_conversations, 1 / num_conversations), RESAMPLES)


def mean_losses(drawn_RC: np.ndarray, sums_C: np.ndarray, units_C: np.ndarray) -> np.ndarray:
    """A model's loss a unit in each draw; `sums_C` and `units_C` are those of the conversations."""
    return (drawn_RC @ sums_C) / np.maximum(drawn_RC @ units_C, 1e-9)


def bleu_scores(drawn_RC: np.ndarray, counts_CN: np.ndarray) -> np.ndarray:
    """A model's corpus BLEU in each draw; `counts_CN` are the sums of its conversations' `counts_of`.

    As sacreBLEU computes it, with its smoothing `exp`.
    """
    counts_RN = (drawn_RC @ counts_CN).astype(np.float64)
    sys_len_R, ref_len_R = counts_RN[:, 0], counts_RN[:, 1]
    correct_R4, total_R4 = counts_RN[:, 2 : 2 + MAX_NGRAM], counts_RN[:, 2 + MAX_NGRAM :]
    smoothing_R4 = 2.0 ** np.cumsum(correct_R4 == 0, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions_R4 = np.where(correct_R4 > 0, correct_R4, 1 / smoothing_R4) / total_R4
        brevity_R = np.where(sys_len_R < ref_len_R, np.exp(1 - ref_len_R / sys_len_R), 1.0)
        scores_R = 100 * brevity_R * np.exp(np.log(precisions_R4).mean(1))
    says_nothing_R = (total_R4 == 0).any(1) | (correct_R4 == 0).all(1)
    return np.where(says_nothing_R, 0.0, scores_R)


def counts_by_conversation(replies: Sequence[Compared], places: Sequence[int], num: int, language: str) -> np.ndarray:
    """What BLEU follows from, summed for each of `num` conversations; `places` are those of the replies'."""
    bleu = BLEU(tokenize=TOKENIZERS[language], force=True)
    counts_CN = np.zeros((num, 2 + 2 * MAX_NGRAM), np.int64)
    for place, reply in zip(places, replies, strict=True):
        counts_CN[place] += counts_of(bleu, reply)
    return counts_CN


def difference(left_R: np.ndarray, right_R: np.ndarray, value: float, num_comparisons: int) -> Difference:
    """Two models' difference, with an interval that holds for that many comparisons together (Bonferroni)."""
    tail = 100 * NOISE / num_comparisons / 2
    low, high = np.percentile(right_R - left_R, [tail, 100 - tail])
    return Difference(value, float(low), float(high))


def over_seeds(differences: Sequence[float]) -> Difference | None:
    """The mean of what single seeds say, with Student's interval of 95 %; None of fewer than two."""
    count = len(differences)
    if count < 2:
        return None
    mean = float(np.mean(differences))
    t = T_975[count - 2] if count - 2 < len(T_975) else 2.2
    half = t * float(np.std(differences, ddof=1)) / count**0.5
    return Difference(mean, mean - half, mean + half)
