"""Fillers: interjections, particles in the middle of a clause, and empty phrases, in Chinese and English."""

import re
from collections.abc import Iterable, Iterator

from curation.smoothing.repetitions import Span

HAN = "\u4e00-\u9fff"
PAUSE = r"[，,、。…~～\s]"
START = r"(?:(?<=^)|(?<=[，,。.！!？?；;：:、…\s]))"
MID = rf"(?<=[{HAN}])"
"""After a character, without a pause."""
ON = rf"(?=[{HAN}])"
"""Before a character, without a pause."""

BARE_ZH = re.compile(rf"^(?=.*[嗯呃唔额])(?:[嗯呃唔额欸诶啊哦噢喔唉哎]|{PAUSE}|[.!！])+$")
BARE_EN = re.compile(r"^(?:(?:uh[- ]?huh|m+-?h+m+|um+|uh+|uhm+|erm*|hm+)[\s,.!…]*)+$", re.IGNORECASE)
CANONICAL_ZH = "嗯。"
CANONICAL_EN = "Mm-hmm."

BEGINNINGS = (
    "如果|然后|那种|这种|那个|有时候|可能|比如|我们|你们|我觉得|我感觉|我想|我的|一直|想|感觉|平时|现在|以前|特别|有点|有些|有的|当时|之前|"
    "每天|每次|大家|很多|他们|咱们"
)
"""What a sentence begins with, so that 就是 before it says nothing: 就是我想问一下, but not 就是他 or 就是这家."""

FILLERS_ZH = [
    (frozenset("嗯呃唔诶"), re.compile(rf"(?!嗯呢|诶[呦哟呀])[嗯呃唔诶]+(?:{PAUSE}*[嗯呃唔诶]+)*(?!呢){PAUSE}*")),
    (frozenset("额"), re.compile(rf"{START}额+(?:{PAUSE}+|(?=[我你他这那就是想要]))")),
    (frozenset("啊哦噢喔唉哎欸"), re.compile(rf"{START}(?:[啊哦噢喔唉哎欸]{{2,}}|[啊哦噢喔唉哎欸]+(?=[，,、…]))[，,、…~～\s]*")),
    (frozenset("啊哎唉欸"), re.compile(rf"{START}啊+(?=[{HAN}])|{START}[哎唉欸]+(?![呀哟呦约吆])(?=[{HAN}])|{MID}[唉欸哎](?![呀哟呦约吆])")),
    (frozenset("啊呐"), re.compile(rf"{MID}[啊呐](?=[{HAN}])(?![啊哦吗嘛吧呀呢]|什么的|[是]的)")),
    (frozenset("嘛呀呢吧"), re.compile(rf"{MID}(?:[嘛呀]|(?<![这那毛])呢(?![绒子料喃])|(?<![酒网餐书茶烤咖贴])吧(?![台友员嗒唧]))(?=[{HAN}])(?![啊哦吗嘛吧呀呢的])")),
    (frozenset("哦噢"), re.compile(rf"(?:{MID}|(?<=[，,]))[哦噢](?=[{HAN}])(?![啊哦吗嘛吧呀呢])|{START}[哦噢]+(?=[{HAN}])(?![啊哦吗嘛吧呀呢了])")),
    (frozenset("哈嘞"), re.compile(rf"(?<=[{HAN}])(?<!哈)哈(?=[我你他她它这那就])|(?<=[{HAN}])(?<![好行对得走来])嘞(?=[，,{HAN}])(?!嘛)")),
    (frozenset("然"), re.compile(r"然后(?=后来|接着)")),
    (frozenset("那这就然怎我你"), re.compile(rf"{START}(?:那个|这个|就是|就是说|然后呢|怎么说呢|我跟你讲|你知道吧)(?:[，,、…]+|\.{{3,}})\s*")),
    (frozenset("那这"), re.compile(r"(?:那个|这个)[，,、…]*(?:那个|这个){1,8}[，,、…]+")),
    (frozenset("那就"), re.compile(rf"{MID}[，,、]\s*(?:那个|就是说)[，,、…]+{ON}")),
    (frozenset("怎吧"), re.compile(rf"{MID}(?:怎么说呢|[是对]吧){ON}")),
    (frozenset("那"), re.compile(rf"(?<=为了|可以|应该|开始)那个{ON}|{MID}(?<![的是])那个什么{ON}|那个(?=啥)")),
    (frozenset("那这一"), re.compile(rf"{MID}那个(?=那|一[个种些]|自己|大家|人家|这|[就都也不有]|[我你他她它咱])(?<!的那个)(?<!是那个)|(?<=一个)那个|(?<=[{HAN}])这个(?=这)|那种(?=那种?)|一个(?=一[{HAN}])(?!一个)")),
    (frozenset("就"), re.compile(rf"就是(?=就)|{START}就是(?=(?:{BEGINNINGS})[{HAN}])|(?<=然后)就是{ON}|(?<=那种)就是{ON}|(?:(?<=一[个些])|(?<=[了对]))就是{ON}")),
    (frozenset("就"), re.compile(rf"就(?=就)|(?<=就是)就{ON}|{MID}(?<![那好])就(?=[我他她](?![家了们俩]|一个|自己))")),
    (frozenset("什"), re.compile(rf"(?<=[啊呀])什么的|{MID}(?<![是做干有为叫看说讲吃卖演属关于要个用管点玩买拍学])什么的(?=[，,。！!？?]|$)")),
]  # fmt: skip
"""Patterns, each with characters of which any match holds one."""
FILLERS_EN = [
    re.compile(r"(?<![\w'-])(?:[Uu]m+|[Uu]h+m?|[Ee]rm?|[Hh]mm+)(?![\w'-])[,.…\s]*"),
    re.compile(rf"{START}(?:you know|i mean|well you know|so yeah)\s*[,…]+\s*", re.IGNORECASE),
    re.compile(r"(?<=\w),\s*like(?=,)", re.IGNORECASE),
]
GOING_ON = frozenset("我你他她它就还也都会是要去到于的得个种那这觉不很")
"""Characters after which a pause is the speaker's, not the sentence's: 我还嗯，加了."""
LATIN = re.compile("[A-Za-z]")


def bare(text: str) -> str | None:
    """The canonical form of an utterance that is only a filler."""
    return CANONICAL_ZH if BARE_ZH.match(text) else CANONICAL_EN if BARE_EN.match(text) else None


def extra_pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    """What matches a user's own fillers, and the pause after them."""
    escaped = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.compile(rf"{START}(?:{escaped}){PAUSE}{{1,3}}") if escaped else None


def fillers(text: str, extra: re.Pattern[str] | None = None) -> Iterator[Span]:
    """Where fillers stand, with the pauses that go with them."""
    characters = set(text)
    for triggers, pattern in FILLERS_ZH:
        if not triggers.isdisjoint(characters):
            for match in pattern.finditer(text):
                yield _with_pause(text, *match.span())
    for pattern in (*(FILLERS_EN if LATIN.search(text) else ()), *([extra] if extra else ())):
        for match in pattern.finditer(text):
            yield _with_pause(text, *match.span())


def _ends_clause(before: str, after: str) -> bool:
    """Whether a clause may end where a filler and a pause stand: 那时候嗯，人们, but not 我还嗯，加了."""
    is_said_again = before[-1:] == after[:1] or before[-2:] == after[:2]
    return (
        re.search(rf"[{HAN}]$", before) is not None
        and before[-1] not in GOING_ON
        and not (is_said_again or after.startswith(("的", "和", "去")))
    )


def _with_pause(text: str, start: int, end: int) -> Span:
    """A filler's own pause goes with it; the pause that ends a sentence, or what may be a clause, stays."""
    removed = text[start:end]
    stripped = removed.rstrip()
    if removed[0] in "嗯呃" and removed[-1] in "，," and _ends_clause(text[:start], text[end:]):
        return start, end - 1
    if stripped and stripped[-1] in "。." and start > 0:
        end = start + len(stripped) - 1
    elif start > 0 and text[start - 1] in "，,、" and (end == len(text) or text[end] in "。！？!?."):
        start -= 1
    return start, end
