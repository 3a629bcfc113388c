"""What stands doubled on purpose, as far as the words around it tell.

看看, 研究研究 and 非常非常 are good Chinese, and who learned from stuttered speech takes them for slips. What no context
allows (坐坐在, 七七十, 看看完) is left to the smoother.
"""

import re
from collections.abc import Iterator

from curation.smoothing.repetitions import (
    DISTRIBUTED,
    EMPHATIC,
    EMPHATIC_WORDS,
    HAN,
    NUMERALS,
    PLACES,
    REDUPLICATED,
    SOFTENED_WORDS,
    TRANSCRIBED,
    Span,
)
from curation.smoothing.words import Vocabulary, Words

IS_HAN = re.compile(f"[{HAN}]")
CHARACTER = re.compile(rf"([{HAN}])\1+")
WORD = re.compile(rf"([{HAN}]{{2}})\1+")
KNOWN = REDUPLICATED | EMPHATIC | TRANSCRIBED
LAUGHTER = frozenset("哈嘿呵嘻")
BREAKING = re.compile(
    rf"[着过完烂死入成在上个边掉住开出进]|了(?=[{HAN}])|不通|下来|下去|下班|到(?![底达期])|起来|不[到了见完]|回家|一[下把次个种位]|得(?!很)"
)
"""What follows no reduplicated character: 坐坐在, 看看了三个."""
BREAKING_WORD = re.compile("[了过着到的得好完一]")
POWERS = frozenset("十百千万亿")
GRADES = re.compile("[高初][一二三]")
GOING_ON = re.compile(rf"[{HAN}](?<![的了啊吧呀呢嘛哦])")
NOUNS = ("n", "t", "s", "f", "z", "eng", "x")
"""Parts of speech of words that the next one may begin alike: 中国|国家, but not 还有|有人."""


def meant(text: str, vocabulary: Vocabulary) -> Iterator[Span]:
    """Where something is doubled on purpose."""
    words: Words | None = None
    for match in CHARACTER.finditer(text):
        is_meant = _is_meant_alone(text, *match.span())
        if is_meant is None:
            words = words or vocabulary.words(text)
            is_meant = _is_meant_among(words, text, match.start(), vocabulary)
        if is_meant:
            yield match.span()
    for match in WORD.finditer(text):
        if _is_word_meant(match[1], text[match.end() :]):
            yield match.span()


def _is_meant_alone(text: str, start: int, end: int) -> bool | None:
    """Whether a character is doubled on purpose, where the characters around it tell."""
    unit, before, after = text[start], text[start - 1 : start], text[end : end + 1]
    if end - start > 2:
        return unit in EMPHATIC and (unit in LAUGHTER or not IS_HAN.match(after))  # 好好好，
    if (before and before == text[start - 2 : start - 1]) or (after and after == text[end + 1 : end + 2]):
        return True  # 高高兴兴
    if unit in NUMERALS:
        return not after or after not in POWERS or before in NUMERALS or before == "第"
    if unit == "对":
        return GOING_ON.match(after) is None
    return False if GRADES.match(unit + after) else None


def _is_meant_among(words: Words, text: str, start: int, vocabulary: Vocabulary) -> bool:
    """Whether the character at `start` stands twice on purpose, as the words tell."""
    unit, after = text[start], text[start + 2 : start + 3]
    (at, first), (at_second, second) = words.at(start), words.at(start + 1)
    if at < start and at_second == start + 1:
        return _joins(first, unit, after, vocabulary)
    if start + 1 < at + len(first) and len(first) > 2:  # 娃娃菜
        return True
    if at_second == start + 1 and len(second) > 1:  # 天|天气
        return False
    return BREAKING.match(text, start + 2) is None if unit in KNOWN else vocabulary.holds(2 * unit)


def _joins(word: str, unit: str, after: str, vocabulary: Vocabulary) -> bool:
    """Whether the next word may begin as this one ends: 中国|国家, but neither 还有|有人 nor 暴露|露."""
    if not IS_HAN.match(after):
        return not vocabulary.holds(word) or vocabulary.holds(word + unit)
    return (vocabulary.tag(word) or "x").startswith(NOUNS) or not vocabulary.holds(unit + after)


def _is_word_meant(word: str, after: str) -> bool:
    if word in SOFTENED_WORDS:
        return BREAKING_WORD.match(after) is None
    if word[0] in "一两几":
        return not after or after[0] in DISTRIBUTED or not IS_HAN.match(after)
    return word in EMPHATIC_WORDS or word in PLACES
