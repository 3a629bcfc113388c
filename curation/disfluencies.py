"""Signs of spoken language, found natively: which kinds of smoothing a text may need.

A sign is a necessary condition: without it, none of the rules of its kind matches in the text. Rules are expressions
of Python's `re` with back-references and look-around; signs are expressions without either, for Rust's engine, and
comparisons of code points with their neighbours.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.text_blocks import in_blocks

LONG_CHARS = range(3, 11)
"""Lengths of what is looked for twice in a row."""
S = r"\s\x1c-\x1f"
"""White space as Python sees it."""
START = rf"(?:^|[，,。.！!？?；;：:、…{S}])"
PAUSE = rf"[，,、。…~～{S}]"
HAN = r"\u4e00-\u9fff"
WORD = f"[{HAN}A-Za-z0-9]"
ALONE = ("(?:^|[^A-Za-z0-9_'-])", "(?:$|[^A-Za-z0-9_'-])")

FILLERS = [
    r"[嗯呃唔]",
    rf"{START}额",
    rf"^[嗯呃唔额欸诶啊哦噢喔唉哎.!！，,、。…~～{S}]+$",
    r"(?i)^(?:um|uh|er|hm|m+-?h)",
    rf"{START}[啊哦噢喔唉哎欸诶]+[啊哦噢喔唉哎欸诶，,、…]",
    rf"{START}(?:那个|这个|就是|就是说|然后呢?|怎么说呢|我跟你讲|你知道吧)(?:[，,、…]|\.\.\.)",
    r"[那这]个[，,、…]*(?:那个|这个)+[，,、…]",
    rf"[{HAN}][，,、][{S}]*(?:那个|就是说)[，,、…]+[{HAN}]",
    rf"{ALONE[0]}(?:[Uu]m+|[Uu]h+m?|[Ee]rm?|[Hh]mm+){ALONE[1]}",
    rf"(?i){START}(?:you know|i mean|well you know|so yeah)[{S}]*[,…]",
    rf"(?i),[{S}]*(?:you know|like|i mean),",
]
REPAIRS = [
    r"(?:^|[^对])不对|[哦噢啊]不|不是不是|[说讲]错了|口误",
    rf"(?i)[,{S}](?:no[,{S}]+(?:wait|sorry|i mean|actually)|wait[,{S}]+no|sorry[,{S}]+no|scratch that|i mean|or rather"
    rf"|make that|sorry)[,{S}]",
]
GRAMMAR = [r"的的", rf"了了(?:[，。！？,.!?{S}]|$)", r"吗吗|呢呢|吧吧", r"[，、；][，、；]"]


def repetitions(stuttered: str, phrases: str, begun: str, words: str) -> list[str]:
    """Signs of what is said twice with a pause between or none, from the characters, phrases and words looked for."""
    between = rf"[，,、…{S}]"
    return [
        rf"(?:{'|'.join(c + c for c in stuttered)}){WORD}",
        rf"{START}(?:{'|'.join(f'{c}{between}+{c}' for c in stuttered)}){WORD}",
        "|".join(f"{phrase}{between}*{phrase}" for phrase in phrases.split("|")),
        rf"{START}(?:{'|'.join(f'{c}[{HAN}]{{1,7}}[，,、…]+[{S}]*{c}[{HAN}]' for c in begun)})",
        rf"(?i)(?:{'|'.join(f'{word}[,…{S}]+{word}' for word in words.split('|'))})[{S}]",
    ]


def hold(texts: pl.Series, signs: Iterable[str]) -> pl.Series:
    """Which texts hold any of the signs."""
    return texts.str.contains("|".join(f"(?:{sign})" for sign in signs))


def repeat_words(texts: pl.Series) -> pl.Series:
    """Which texts of several words with spaces between say any of them twice."""
    found = texts.str.contains(rf"(?:[{S}]+[^{S}]+){{4}}")
    if found.any():
        words = texts.filter(found).str.to_uppercase().str.to_lowercase().str.extract_all(r"\w+")
        found = found.scatter(found.arg_true(), words.list.n_unique() < words.list.len())
    return found


def repeat_han(texts: pl.Series) -> pl.Series:
    """Which texts hold a Chinese character three times in a row, or a run of LONG_CHARS of them twice."""
    found = np.zeros(len(texts), dtype=np.bool_)
    for block in in_blocks(texts):
        found[block.texts_at(np.flatnonzero(_repeats(block.points)))] = True
    return pl.Series(found)


def _repeats(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Where a repeat begins, for code points of texts with line breaks between."""
    han = (points >= 0x4E00) & (points <= 0x9FFF)
    found = np.zeros(len(points), dtype=np.bool_)
    if len(points) > 2:
        twice = (points[1:] == points[:-1]) & han[1:]
        found[:-2] = twice[1:] & twice[:-1]
    for length in LONG_CHARS:
        if len(points) < 2 * length:
            break
        same = (points[length:] == points[:-length]) & han[length:]
        runs = same[2:] & same[1:-1] & same[:-2]
        for place in np.flatnonzero(runs[: len(same) - length + 1]):
            found[place] |= bool(same[place : place + length].all())
    return found
