"""A trained smoother beside the rules: which of a text's characters go, once both have said what they think."""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from curation.draft import Edit
from curation.smoother import CERTAIN, Logits, Smoother, decide, decide_freely, runs, votes_of
from curation.smoother_spelling import SHARE
from curation.smoothing.doubles import meant
from curation.smoothing.words import Vocabulary

ScoredEdit = tuple[int, int, str, str, float | None]
"""An edit, and how sure the smoother is of it; None where the rules decided alone."""
Mask = npt.NDArray[np.bool_]
NOT_SPEECH = re.compile(
    r"[A-Za-z0-9@./:_%+#—-]{2,}|[0-9]|[哈呵嘿嘻]{2,}|[^\w，,、…。！？!?~～]|(?<=\w)[啊呀呢哦呗哇](?=[，,。！？!?~～]|$)"
)
"""Names, numbers, addresses, laughter, blanks, signs and the tone at a clause's end are no slips."""
ANSWER = re.compile(r"[^，,。！!？?、…\s]{1,5}[，,。！!？?]")
"""是的，and 你好，at the beginning answer and greet, which somebody who tells a story does not."""
ASKS = re.compile(r'[?？0-9《“"、；;:：()（）]|是的|您|请|谢|吗|呢|吧|哈|好的|推荐|什么|多少|哪|知道')
"""Questions, requests, answers, titles and numbers: how people talk to somebody, not how they tell a story."""
SAID_AT_ONCE = re.compile(r"(\w{1,2})\1")
"""天天, 研究研究, 中国国家: what is meant and what is a slip the rules tell better."""
CAREFUL = re.compile(
    r"(\w{1,8})[，,、… ]{0,2}\1|[啊吧呀呢哦嘛啦呗哇的了](?=[，,。！!？?~～]|$)|[这那哪什][个么种些]的?|.?[0-9A-Za-z)）(（].?"
)
"""In texts in which the rules find no slip, these are none either: what is said twice, of which they know more; final
particles; demonstratives; what stands at numbers and names."""
EMPTY = frozenset({"就是", "就是说", "那种", "然后", "就", "其实", "然后呢", "怎么说"})
"""Words that say nothing where they do not point at anything."""
PAUSES = "，,、… "
MOST_FILLER = 3
"""Longer stretches that are not said again are what somebody took back."""


def smooth_together(
    texts: Mapping[int, str],
    ruled: Mapping[int, Sequence[Edit]],
    smoother: Smoother,
    protect: re.Pattern[str],
    wanted: Collection[str],
) -> dict[int, list[ScoredEdit]]:
    """The edits of texts by row, of the rules and the smoother together.

    `protect`: what only rules may touch; `wanted`: the codes that are asked for.
    """
    votes = [votes_of(text, ruled.get(row, ())) for row, text in texts.items()]
    logits = smoother.logits(list(texts.values()), votes)
    return {
        row: [
            edit
            for edit in _together(
                text, ruled.get(row, ()), mine > 0, odds, protect, smoother if smoother.was_taught_such(text) else None
            )
            if edit[4] is None or edit[3] in wanted
        ]
        for (row, text), mine, odds in zip(texts.items(), votes, logits, strict=True)
    }


def _together(
    text: str, ruled: Sequence[Edit], voted: Mask, odds: Logits, protect: re.Pattern[str], teacher: Smoother | None
) -> list[ScoredEdit]:
    """The edits of a text; `teacher`: the smoother, where the text is of the kind that it was taught with."""
    kept = np.zeros(len(text), dtype=bool)
    fixed: list[ScoredEdit] = []
    for start, end, new, code in ruled:
        if new:
            fixed.append((start, end, new, code, None))
            kept[start:end] = True
    for match in protect.finditer(text):
        kept[match.start() : match.end()] = True
    held = kept.copy()
    for match in NOT_SPEECH.finditer(text):
        held[match.start() : match.end()] = True
    if teacher is None:
        gone = _with_care(text, voted, odds, held, spoken=any(code != "grammar" for *_, code in ruled))
    else:
        gone = _freely(text, voted, odds, held)
    if not re.search(r"\w", "".join(character for character, goes in zip(text, gone, strict=True) if not goes)):
        gone = voted  # something was said
    if teacher is not None:
        for start, end, new, code in teacher.spelling.edits(text):
            if not (gone | kept)[start:end].any():
                fixed.append((start, end, new, code, SHARE))
    codes = {start: code for start, _, new, code in ruled if not new}
    found = [
        (start, end, "", codes.get(start) or _code(text, start, end), _score(odds[start:end], voted[start:end]))
        for start, end in runs(gone)
    ]
    return sorted([*found, *fixed])


def _freely(text: str, voted: Mask, odds: Logits, held: Mask) -> Mask:
    """What goes where the smoother knows its kind of text."""
    for start, end in meant(text, Vocabulary.of()):
        held[start:end] = True
    return decide_freely(odds, voted, held)


def _with_care(text: str, voted: Mask, odds: Logits, held: Mask, *, spoken: bool) -> Mask:
    """What goes of other texts; `spoken`: the rules found a slip in it."""
    asks = ASKS.search(text) is not None
    for pattern in (SAID_AT_ONCE, *(() if spoken or not asks else (CAREFUL,))):
        for match in pattern.finditer(text):
            held[match.start() : match.end()] = True
    if (answer := ANSWER.match(text)) is not None:
        held[: answer.end()] = True
    gone = decide(odds, voted, held, certain=None if spoken else CERTAIN["asks" if asks else "tells"])
    if not spoken:
        for start, end in runs(gone & ~voted):
            gone[start:end] = _is_like_a_slip(text, start, end)
    return gone


def _is_like_a_slip(text: str, start: int, end: int) -> bool:
    """Whether a stretch is an empty word, or the beginning of what is said right after it."""
    said, after = text[start:end].strip(PAUSES), text[end:].lstrip(PAUSES)
    if len(said) < 2 and said not in EMPTY:
        return False
    return said in EMPTY or after.startswith(said[0]) or said[:2] in after[: len(said) + MOST_FILLER]


def _code(text: str, start: int, end: int) -> str:
    """What a stretch was that the rules had not found alike."""
    said, after = text[start:end].strip(PAUSES), text[end:].lstrip(PAUSES)
    if said and (after.startswith(said[0]) or said in after[: len(said) + MOST_FILLER]):
        return "repetition"
    return "filler" if len(said) <= MOST_FILLER else "repair"


def _score(odds: Logits, voted: Mask) -> float | None:
    return None if voted.all() else float(1 / (1 + np.exp(-odds.min())))
