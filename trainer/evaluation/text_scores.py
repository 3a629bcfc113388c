"""How near generated replies come to what was said: BLEU and chrF of sacreBLEU, Chinese and other replies apart.

BLEU of a corpus follows from counts of its replies, so its interval comes from drawing whole conversations anew, with
their replies (bootstrap), instead of replies that depend on each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

MIN_REPLIES = 100
"""Fewer are too few to tell models apart."""
RESAMPLES = 1000
TOKENIZERS = {"zh": "zh", "en": "13a"}
"""By language: sacreBLEU's tokenisation."""


@dataclass(frozen=True)
class Compared:
    """A generated reply beside the one that was said."""

    conversation_id: str
    reference: str
    generated: str

    @property
    def language(self) -> str:
        """That of the reference."""
        return language_of(self.reference)


@dataclass(frozen=True)
class Score:
    """BLEU and chrF of the replies in one language, from 0 to 100."""

    bleu: float
    low: float
    """BLEU's 95 % interval."""
    high: float
    chrf: float
    replies: int
    conversations: int
    bleu_signature: str
    chrf_signature: str

    @property
    def is_too_small(self) -> bool:
        """Whether there are too few replies to tell models apart."""
        return self.replies < MIN_REPLIES


def language_of(text: str) -> str:
    """`zh` of a text with Han characters, else `en`."""
    return "zh" if any("\u3400" <= char <= "\u9fff" for char in text) else "en"


def score(replies: Sequence[Compared], *, seed: int) -> dict[str, Score]:
    """Scores by language; one that no reply is in is absent."""
    by_language = sorted(replies, key=lambda reply: (reply.language, reply.conversation_id))
    return {language: _score(list(group), seed) for language, group in groupby(by_language, lambda r: r.language)}


def _score(replies: list[Compared], seed: int) -> Score:
    language = replies[0].language
    bleu, chrf = BLEU(tokenize=TOKENIZERS[language], force=True), CHRF()
    counts = {
        conversation: sum(counts_of(bleu, reply) for reply in group)
        for conversation, group in groupby(replies, lambda reply: reply.conversation_id)
    }
    counts_CN = np.array(list(counts.values()))
    drawn_RC = np.random.default_rng(seed).integers(len(counts_CN), size=(RESAMPLES, len(counts_CN)))
    low, high = np.percentile([_bleu(counts_CN[drawn_C].sum(0)) for drawn_C in drawn_RC], [2.5, 97.5])
    return Score(
        bleu=_bleu(counts_CN.sum(0)),
        low=float(low),
        high=float(high),
        chrf=float(chrf.corpus_score([r.generated for r in replies], [[r.reference for r in replies]]).score),
        replies=len(replies),
        conversations=len(counts_CN),
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def counts_of(bleu: BLEU, reply: Compared) -> np.ndarray:
    """Lengths of both, then the n-grams that both have and those generated, n from 1 to 4."""
    one = bleu.corpus_score([reply.generated], [[reply.reference]])
    return np.array([one.sys_len, one.ref_len, *one.counts, *one.totals])


def _bleu(counts_N: np.ndarray) -> float:
    sys_len, ref_len, *grams = counts_N.tolist()
    return float(BLEU.compute_bleu(grams[:4], grams[4:], sys_len, ref_len, smooth_method="exp").score)
