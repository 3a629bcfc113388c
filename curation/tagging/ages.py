"""Ages as people tell them: numbers, years of birth, decades (85后) and rough ones (三十出头)."""

import re
from collections.abc import Iterator
from datetime import date

from curation.tagging.claims import ADVERB, BEGIN, END, SELF, Rule, Values, rule

BANDS = ((0, 17), (18, 24), (25, 34), (35, 44), (45, 54), (55, 64), (65, 120))
MAX_AGE = 120
DIGITS = "零一二三四五六七八九"
TENS = r"[二三四五六七八九]?十"
HAN = rf"(?:{TENS}[一二三四五六七八九]?|[二三四五六七八九]十有[一二三四五六七八九])"
AGE = rf"(?P<age>\d{{1,3}}(?!\d)|{HAN}|[一二两三四五六七八九](?=岁))"
GROWN = rf"(?P<age>[1-9]\d(?!\d)|{HAN})"
"""An age that is told without a unit."""
YEAR = r"(?P<year>(?:19|20)\d\d|[0-9]\d|[一二][九〇零][〇零一二三四五六七八九]{2}|[〇零一二三四五六七八九]{2}|两千)年"
LED = rf"{SELF}(?:{ADVERB}|满|年龄|年纪|周岁|的|一个|一名|一|这个|这|样|女|男|女生|男生|有|为|，|,|\s)*"
NOT_OLD = (
    r"(?!退休|以[上下后前内]|之[前后]|[多到至]|的?时候?|那年|的?(?:儿子|女儿|孩子|宝宝|小孩|娃|弟|妹|老公|老婆|生日礼))"
)
DONE = r"(?:了|啦|整|咯|哦|呢|呀|周?岁|岁数|零\S{0,4}|高龄|的人了?)*"


def _age(match: re.Match[str], as_of: date) -> Values:
    age = number(match.group("age"))
    if 1 <= age <= MAX_AGE:
        yield "age", str(age)


def _born(match: re.Match[str], as_of: date) -> Values:
    year = _year(match.group("year"), as_of)
    if 0 <= as_of.year - year <= MAX_AGE:
        yield "age", str(as_of.year - year)


def _decade(match: re.Match[str], as_of: date) -> Values:
    decade = int(match.group("decade"))
    first = decade + (1900 if decade >= 30 else 2000)
    yield from _banded(as_of.year - first - (4 if decade % 10 == 5 else 9), as_of.year - first)


def _rough(match: re.Match[str], as_of: date) -> Values:
    found = match.groupdict()
    tens = found["tens"]
    base = number(tens if tens.isdecimal() or "十" in tens else f"{tens}十")
    low, high = {
        "over": (base + 1, base + 9), "just": (base, base + 3), "about": (base - 2, base + 2), "near": (base - 2, base - 1),
        "nominal": (base - 2, base - 1),
    }[next(name for name in ("over", "just", "about", "near", "nominal") if found.get(name))]  # fmt: skip
    yield from _banded(low, high)


def _pair(match: re.Match[str], as_of: date) -> Values:
    tens, first, second = (number(match.group(name)) for name in ("tens", "first", "second"))
    if second == first + 1:
        yield from _banded(tens + first, tens + second)


def _english_rough(match: re.Match[str], as_of: date) -> Values:
    words = ("twen", "thir", "for", "fif", "six", "seven", "eigh", "nine")
    tens = match.group("decade").lower()
    base = int(tens[:2]) if tens[0].isdigit() else 20 + 10 * next(i for i, w in enumerate(words) if tens.startswith(w))
    low, high = {"early": (0, 3), "mid": (4, 6), "late": (7, 9)}.get((match.group("part") or "").lower(), (0, 9))
    yield from _banded(base + low, base + high)


def _banded(low: int, high: int) -> Iterator[tuple[str, str]]:
    """The band of a range of ages, if they share one."""
    if not 0 <= low <= high:
        return
    bands = {age_band(min(age, MAX_AGE)) for age in (low, high)}
    if len(bands) == 1:
        yield "age_band", bands.pop()


DECADE_EN = r"(?P<decade>twenties|thirties|forties|fifties|sixties|seventies|eighties|nineties|[2-9]0'?s)"
TENS_ROUGH = r"(?P<tens>[二三四五六七八九]十|[2-9]0)"
ROUGH = rf"{TENS_ROUGH}岁?(?:(?P<over>好几|多|几|来)|(?P<just>出头|挂零)|(?P<about>左右|上下))岁?"
NEAR = r"(?:(?P<near>快|奔|年近|将近|接近|近)|(?P<just>刚过|刚到)|(?P<nominal>虚岁))(?P<tens>[二三四五六七八九]十?|[2-9]0)(?![一二三四五六七八九\d])岁?"
PAIR = r"(?P<tens>[二三四五六七八九]十)(?P<first>[一二三四五六七八])(?P<second>[二三四五六七八九])岁?"
RULES: tuple[Rule, ...] = (
    rule(rf"{LED}{AGE}周?岁{NOT_OLD}", _age),
    rule(rf"(?:作为|像我)(?:我|一?[个名位]|这样|这种)*{AGE}岁", _age),
    rule(rf"{LED}(?<=[年都经才满今是了龄纪在好]){GROWN}{DONE}{END}", _age),
    rule(rf"{SELF}{GROWN}{DONE}{END}(?!，\d+[号日])", _age),
    rule(rf"{SELF}这?{GROWN}的人了?", _age),
    rule(rf"(?:我的?|{BEGIN})年[龄纪](?:是|为|：|:|\s)*{AGE}", _age),
    rule(rf"{BEGIN}(?:今年|现年|现在|目前|人?已经|本人|年龄|刚满|都|我|是)*{AGE}(?:周?岁{NOT_OLD}){DONE}{END}", _age, own=False),
    rule(rf"{BEGIN}(?:今年|现年|现在|我现在|本人)+(?:都|已经|刚|是|刚好|正好|满)*{GROWN}{DONE}{END}", _age, own=False),
    rule(rf"{BEGIN}(?:人?已经|都|现在)*{GROWN}了(?:{END}|想)", _age, own=False),
    rule(rf"{BEGIN}(?:男|女)(?:的|性|生|士)?[，,、\s]*{GROWN}(?:周?岁)?{END}", _age, own=False),
    rule(rf"{BEGIN}{AGE}岁的我(?!的)", _age),
    rule(rf"{BEGIN}{AGE}岁(?:的)?(?:男|女)(?:的|性|生|士)?{END}", _age, own=False),
    rule(rf"{BEGIN}{AGE}岁(?:的)?(?:男|女)(?:的|性|生|士)?，", _age, own=False),
    rule(rf"刚?过完?{AGE}岁生日", _age, own=False),
    rule(rf"{SELF}(?:{ADVERB}|，|男的|女的)*{YEAR}(?:\d{{1,2}}月)?(?:\d{{1,2}}[日号])?(?:出生的?|生的?|生人|的|属.的)?(?:{END}|吧)", _born),
    rule(rf"{SELF}(?:{ADVERB}|，|男的|女的)*{YEAR}(?:\d{{1,2}}月)?(?:\d{{1,2}}[日号])?(?:出生|生人|属.)(?!的他|的她)", _born),
    rule(rf"(?:{SELF}|^)(?:出?生于|出生在){YEAR}", _born, own=False),
    rule(rf"(?:^|我[^。！？]{{0,12}}[，,])(?:属于)?{YEAR}(?:生?的){END}", _born, own=False),
    rule(rf"{SELF}(?:{ADVERB}|算|一个|个|一名|名|的|老)*(?P<decade>[5-9]0|[0-9]5|[01]0)后(?!的(?![，,。！]|$))", _decade),
    rule(rf"{BEGIN}(?P<decade>[5-9]0|[0-9]5|[01]0)后(?:一枚|一个)?{END}", _decade, own=False),
    rule(rf"{SELF}(?:{ADVERB}|，|满|也就)*{ROUGH}", _rough),
    rule(rf"{BEGIN}(?:今年|都|已经)*{ROUGH}(?:了|的人)?{END}", _rough, own=False),
    rule(rf"{SELF}(?:今年|现在|都|也|已经|就|是|，)*{NEAR}", _rough),
    rule(rf"{BEGIN}(?:都|已经)?{NEAR}(?:的人)?了?{END}", _rough, own=False),
    rule(rf"{SELF}(?:{ADVERB}|，)*{PAIR}", _pair),
    rule(r"\bi(?:'|’)?(?:m| am) (?:a |an |now |only |just |already )*(?P<age>\d{1,3})[ -]?(?:years?[ -]old|years? of age|yrs?[ -]old|y/?o\b)", _age),
    rule(r"\bi(?:'|’)?(?:m| am) (?:now |only |just |already )*(?P<age>[1-9]\d)(?=[,.!]| and\b| now\b|$)(?!\.\d)", _age),
    rule(r"\b(?:i(?:'|’)?ve|i have|i) (?:just )?turned (?P<age>[1-9]\d)\b", _age),
    rule(r"\bmy age is (?P<age>[1-9]\d)\b", _age),
    rule(r"\bas an? (?P<age>[1-9]\d)[- ]year[- ]old", _age),
    rule(r"(?:^|[,.] ?)(?P<age>[1-9]\d)[ -]?(?:years?[ -]old|yo|y/o)?[ -]?(?:male|female|man|woman|m|f)\b", _age, own=False),
    rule(r"\bi was born in (?P<year>(?:19|20)\d\d)\b", _born),
    rule(rf"\bi(?:'|’)?(?:m| am) in my (?:(?P<part>early|mid|late)[ -])?{DECADE_EN}", _english_rough),
)  # fmt: skip
ASKS = (
    r"(?:您|你|本人|办理人)[^。？?]{0,8}(?:多大|几岁|贵庚|年龄|年纪|出生年|哪年出生|几几年|岁)|贵庚|提供[^。？?]{0,6}年龄|^[^。]{0,6}年龄[^。]{0,4}[？?]|几几年的|"
    r"how old are you|your age|what year were you born|your (?:year|date) of birth"
)
ANSWERS: tuple[Rule, ...] = (
    rule(rf"(?:^|[，,。！!\s])(?:我|今年|是|免贵|本人|刚|也|就|，|,)*{GROWN}{DONE}{END}", _age),
    rule(rf"^(?:我|是|出生)*{YEAR}(?:的|生的?|出生的?)?{END}", _born),
    rule(r"^(?:i'm |i am )?(?P<age>[1-9]\d)(?:\s|\.|,|$)", _age),
    rule(r"^(?:in )?(?P<year>(?:19|20)\d\d)\b", _born),
)  # fmt: skip


def age_band(age: int) -> str:
    """The band of an age in years."""
    low, high = next((low, high) for low, high in BANDS if low <= age <= high)
    return "65+" if low == 65 else f"{low}-{high}"


def number(text: str) -> int:
    """A number below a thousand in digits, or one below a hundred in Chinese."""
    if text.isdecimal():
        return int(text)
    tens, ten, ones = text.replace("两", "二").replace("有", "").partition("十")
    if not ten:
        return DIGITS.index(tens)
    return (DIGITS.index(tens) if tens else 1) * 10 + (DIGITS.index(ones) if ones else 0)


def _year(text: str, as_of: date) -> int:
    digits = (
        "2000"
        if text == "两千"
        else "".join(str(DIGITS.index(c)) if c in DIGITS else c for c in text.replace("〇", "零"))
    )
    year = int(digits)
    return year if year > 99 else year + (2000 if year <= as_of.year - 2000 else 1900)


SIGN = (
    r"(?i)[\d一二两三四五六七八九十]周?岁|[05]后|年(?:\d{1,2}月)?(?:\d{1,2}[日号])?(?:出?生|的|属|吧|[，,。！!？?；;、：:\s]|$)|生[于在]|出生|"
    r"[十0]岁?(?:出头|挂零|好?几|多|来|左右|上下)|(?:快|奔|近|刚过|刚到|虚岁)(?:[二三四五六七八九]|[2-9]0)|年[龄纪]|"
    r"(?:我们?|自己|人|咱们?|俺们?|家|[今年都经才满是了龄纪在好现边这，。,！!？?男女生士性一样名个有为的前本来快]|\s)[，,、\s]*(?:[1-9]\d|[二三四五六七八九]?十[一二三四五六七八九]?|[二三四五六七八九]十有.)(?:了|啦|整|[咯哦呢呀的零高周]|[一二三四五六七八九岁]|[，,。！!？?；;、：:\s]|$)|"
    r"^(?:[1-9]\d|[二三四五六七八九]?十[一二三四五六七八九]?)(?:了|啦|整|岁|[，,。！!？?；;、：:\s]|$)|"
    r"[ -]old|years? of age|y/?o|i.?m \d|i am |turned|born in|age is|in my |\d ?-?(?:m|f)"
)
"""Matches every text that a rule of this module reads; plain enough to be one small automaton."""
