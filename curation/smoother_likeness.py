"""Whether a text is of the kind that a smoother was taught with, by the marks that it bears.

Transcribed speech has hardly a question mark, a figure or a title; typed dialogues are full of them, and they need
next to no smoothing. So a smoother counts how many of the spoken texts that it is taught bear each kind of mark. Where
a text bears one that next to none of those had, it is none of their kind, and the smoother acts with care there.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MARKS = (
    r"[。.!！~～]\s*$",
    r"[?？]",
    r"[。！!?？]\s*\w",
    r"[0-9]",
    r"[A-Za-z]",
    r"[^\w\s，,。.！!？?…~～]",
    "您",
    "请",
    "谢",
    "推荐",
    "^[是好]的",
)
"""What tells kinds of texts apart: ends of sentences, questions, several sentences, figures, Latin letters, brackets
and signs, and how people serve each other."""
RARE = 0.05
"""A mark that fewer of the taught texts bear is strange to them."""


def shares(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Of each mark the share of texts that bear it."""
    patterns = [re.compile(mark) for mark in MARKS]
    borne = [sum(pattern.search(text) is not None for text in texts) for pattern in patterns]
    return np.array(borne, dtype=np.float32) / np.float32(max(1, len(texts)))


def strange_marks(taught: npt.NDArray[np.float32]) -> re.Pattern[str]:
    """What texts of the kind that was taught do not bear, from the shares of those that do."""
    strange = [mark for mark, share in zip(MARKS, taught.tolist(), strict=True) if share < RARE]
    return re.compile("|".join(strange) or r"(?!)")
