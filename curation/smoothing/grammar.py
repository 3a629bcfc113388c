"""Slips of grammar that are certain: doubled particles, marks and measure words, and 的 where 得 or 地 belongs.

的 before a complement of degree is 得 after verbs that take no object there (跑的很快, 演的非常好); 的 between a doubled
adverb and a verb is 地 (慢慢的走). Everything else that may be right as it stands is left alone.
"""

import re
from collections.abc import Callable, Iterator

from curation.smoothing.repetitions import HAN, LEXICON
from curation.smoothing.words import Vocabulary

Change = tuple[int, int, str]
"""(start, end, replacement) in the text that a rule was given."""

DOUBLED = re.compile(
    r"(?<!目)的(?=的(?!确|哥|士))"
    r"|(?<!不)了(?=了(?:[，。！？,.!?\s]|$))"
    r"|([吗呢吧])(?=\1)"
    r"|([，、；])(?=[，、；])"
    r"|[，、；](?=[。！？])|(?<=[。！？])[，、；]"
    r"|^[，、；]\s*(?=\S)"
    r"|(?<=[一二两三四五六七八九十几])个(?=个[\u4e00-\u9fff])(?!个[人体性头子案别股税])"
)
INTENSE = "很|太|非常|特别|挺|真|这么|那么|好|越来越|格外|十分"
COMPLEMENT = re.compile(
    rf"(?<![原翻好])[{LEXICON['complemented']}]的(?=(?:都|也)?(?:(?:{INTENSE})(?:{'|'.join(LEXICON['complements'].split())})|不错)"
    r"(?:了|呢|啊|呀|吧|哦)?(?:[，。！？；,.!?\s]|$))"
    rf"|[{HAN}]的(?=不得了(?:[，。！？,.!?\s]|$))"
)
ADVERBIAL = re.compile(rf"(?:{'|'.join(LEXICON['adverbials'].split())})的(?=[{HAN}])")
MEASURED = re.compile(r"[一二两三四五六七八九十几]个(?=[只条张本辆件块瓶杯座双间棵颗匹架艘幅盏朵])")


def slips(text: str, vocabulary: Callable[[], Vocabulary]) -> Iterator[Change]:
    """What should go, the second of two staying, and what should be replaced."""
    for match in DOUBLED.finditer(text):
        yield *match.span(), ""
    for match in COMPLEMENT.finditer(text):
        yield match.end() - 1, match.end(), "得"
    for match in ADVERBIAL.finditer(text):
        if vocabulary().tags(text[match.end() : match.end() + 4])[0] == "v":
            yield match.end() - 1, match.end(), "地"
    for match in MEASURED.finditer(text):
        counted = text[match.end() : match.end() + 5]
        is_one_word = vocabulary().holds(counted[:2])  # 一个条件
        if not is_one_word and len(counted) > 1 and vocabulary().tags(counted[1:])[0].startswith("n"):  # 一个只狗
            yield match.end() - 1, match.end(), ""
