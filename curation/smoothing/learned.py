"""A trained smoother beside the rules: which of a text's characters go, once both have said what they think."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from curation.draft import Edit
from curation.smoother import Logits, Smoother, decide, runs
from curation.smoothing.repetitions import EMPHATIC, EMPHATIC_WORDS, REDUPLICATED, SOFTENED_WORDS

ScoredEdit = tuple[int, int, str, str, float | None]
"""An edit, and how sure the smoother is of it; None where the rules decided alone."""
DOUBLES = re.compile(
    rf"([{''.join(sorted(REDUPLICATED | EMPHATIC))}])\1|({'|'.join(sorted(EMPHATIC_WORDS | SOFTENED_WORDS))})\2"
)
"""What may be doubled on purpose."""
NOT_SPEECH = re.compile(r"[A-Za-z0-9@./:_%+-]{2,}")
"""Names, numbers and addresses are nothing that the smoother was taught to mend."""
PAUSES = "，,、… "
MOST_FILLER = 3
"""Longer stretches that are not said again are what somebody took back."""


def smooth_together(
    texts: Mapping[int, str], ruled: Mapping[int, Sequence[Edit]], smoother: Smoother, protect: re.Pattern[str]
) -> dict[int, list[ScoredEdit]]:
    """The edits of texts by row, of the rules and the smoother together; `protect`: what only rules may touch."""
    logits = smoother.logits(list(texts.values()))
    return {
        row: _together(text, ruled.get(row, ()), odds, protect)
        for (row, text), odds in zip(texts.items(), logits, strict=True)
    }


def _together(text: str, ruled: Sequence[Edit], odds: Logits, protect: re.Pattern[str]) -> list[ScoredEdit]:
    votes, kept = np.zeros(len(text), dtype=bool), np.zeros(len(text), dtype=bool)
    fixed: list[ScoredEdit] = []
    for start, end, new, code in ruled:
        if new:
            fixed.append((start, end, new, code, None))
            kept[start:end] = True
        else:
            votes[start:end] = True
    for pattern in (protect, DOUBLES, NOT_SPEECH):
        for match in pattern.finditer(text):
            kept[match.start() : match.end()] = True
    spoken = any(code != "grammar" for *_, code in ruled)
    gone = decide(odds, votes, kept, spoken=spoken)
    if not re.search(r"\w", "".join(character for character, goes in zip(text, gone, strict=True) if not goes)):
        gone = votes  # something was said
    codes = {start: code for start, _, new, code in ruled if not new}
    found = [
        (start, end, "", codes.get(start) or _code(text, start, end), _score(odds[start:end], votes[start:end]))
        for start, end in runs(gone)
    ]
    return sorted([*found, *fixed])


def _code(text: str, start: int, end: int) -> str:
    """What a stretch was that the rules had not found alike."""
    said, after = text[start:end].strip(PAUSES), text[end:].lstrip(PAUSES)
    if said and (after.startswith(said[0]) or said in after[: len(said) + MOST_FILLER]):
        return "repetition"
    return "filler" if len(said) <= MOST_FILLER else "repair"


def _score(odds: Logits, votes: npt.NDArray[np.bool_]) -> float | None:
    return None if votes.all() else float(1 / (1 + np.exp(-odds.min())))
