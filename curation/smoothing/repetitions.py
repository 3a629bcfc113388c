"""Repetitions in Chinese: stuttered characters, words and phrases said twice, and sentences begun again.

Rules find what stands twice; jieba's words and lexicons of what is doubled on purpose (天天, 研究研究, 一步一步) tell
which of it is a slip. The last of what was said is kept.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from curation.disfluencies import SaidAgain
from curation.smoothing.words import Vocabulary, Words

Span = tuple[int, int]

LEXICON = json.loads((Path(__file__).parent.parent / "lexicons" / "spoken_language.json").read_text("utf-8"))
STUTTERED = LEXICON["stuttered"]
"""Characters that never stand doubled in correct text; a doubled one is a stutter."""
DOUBLED = LEXICON["doubled"]
"""Characters doubled so often on purpose (谢谢, 看看) that a text with nothing else is not looked at."""
SOFTENED = frozenset(LEXICON["softened"])
"""Verbs that are doubled to soften them: 聊聊天, 换换口味."""
FREE_DOUBLES = frozenset(LEXICON["free_doubles"] + DOUBLED)
"""Characters that, doubled, are words which anything may follow: 慢慢, 刚刚, 妈妈."""
REDUPLICATED = SOFTENED | FREE_DOUBLES | frozenset(LEXICON["reduplicated"])
EMPHATIC = frozenset(LEXICON["emphatic_characters"] + LEXICON["numerals"])
NUMERALS = frozenset(LEXICON["numerals"])
EMPHATIC_WORDS = frozenset(LEXICON["emphatic_words"].split())
SOFTENED_WORDS = frozenset(LEXICON["softened_words"].split())
"""Words of two characters that are said twice to soften them: 考虑考虑."""
PLACES = frozenset(LEXICON["places"].split())
"""Words that end a name and begin the next phrase: 王朝酒店酒店价格."""
UNREDUPLICATED = frozenset(LEXICON["unreduplicated"].split())
COMPOUNDS = frozenset(LEXICON["compounds"].split())
"""Words after which the same character may stand again: 现在在家, 主要要看."""
FUNCTIONAL = frozenset(LEXICON["function_characters"])
ANSWERS = frozenset(LEXICON["answers"].split())

HAN = "\u4e00-\u9fff"
WORD = f"[{HAN}A-Za-z0-9]"
START = "(?:(?<=^)|(?<=[，,。.！!？?；;：:、…\\s]))"
MAX_CHARS = 12
"""Longest phrase that is looked for twice."""

BEGUN_WORDS: dict[str, str] = LEXICON["begun_words"]
"""What goes on with a character of REDUPLICATED as one word: 早早上 stands for 早上, though 早早 is a word."""
COMPLEMENTED = re.compile("[着过完烂死入成]|了(?=[\u4e00-\u9fff])|不通|下来|下去|到(?![底达期])|起来|不[到了见完]|回家")
"""What follows no reduplicated verb: 打打起来 is a slip, 打打球 is none."""
PHRASE = re.compile(rf"([{HAN}]{{3,{MAX_CHARS}}}?)\1")
PAIR = re.compile(rf"([{HAN}]{{2}})\1+")
CHARACTER = re.compile(rf"([{HAN}])\1+")
PAUSED_CHARACTER = re.compile(rf"{START}([{HAN}])(?:[，,… ]{{1,3}}\1){{1,8}}(?=[{HAN}])")
BEGUN_WORD = re.compile(rf"(?<=[{HAN}])([{HAN}])[，,]\1(?=[{HAN}])")
PAUSED = re.compile(rf"{START}([{HAN}]{{2,{MAX_CHARS}}}?)(?:[，,…]{{1,3}}\1){{1,8}}(?=[{HAN}])")
PAUSED_INSIDE = re.compile(rf"(?<=[{HAN}])([{HAN}]{{2,6}}?)[，,…]{{1,3}}\1(?=[{HAN}])")
PRONOUNS = "我你他她它咱"
TAKING_PRONOUNS = "吃喝用买做选说有在跟和对把将想怕教要看给问听让叫陪帮求祝是其连比为替像"
"""What a second pronoun may follow: 我怕我, 他跟他."""
QUESTION = re.compile("[是能会要有好可对行想去][不没]")
"""Beginning of a question with a verb on either side: 是不|是不小."""
RESUMED = re.compile(rf"([{HAN}]{{2,6}})([{HAN}])\1(?=[{HAN}])")
BEGUN_AGAIN = (
    re.compile(rf"{START}(对){{1,4}}\1(?=[{PRONOUNS}])"),
    re.compile(rf"([{PRONOUNS}])(?![们{TAKING_PRONOUNS}])[{HAN}]\1(?!们)(?=[{HAN}])"),
    re.compile(rf"{START}([{PRONOUNS}])(?:那个|就是|也是|一个)\1(?!们)(?=[{HAN}])"),
    re.compile(rf"([{PRONOUNS}])们\1(?![们和跟与])(?=[{HAN}])"),
    re.compile(rf"([那这])[个条种些单](?!\1[个条种些])\1(?=[{HAN}])"),
    re.compile(rf"{START}([{PRONOUNS}])[{HAN}](?<![吗吧呢啊呀嘛的好说看想])[，,]\1(?!们)(?=[{HAN}])"),
    re.compile(r"(只)[是在有能会]\1(?=[是在有能会])"),
    re.compile(r"(成)了\1(?=为)"),
    re.compile(r"(真)是\1(?=的)"),
    re.compile(rf"([{HAN}]{{2,6}})(?:就是|那个|这个)\1(?=[{HAN}])"),
    re.compile(rf"([就跟也都还去])(?![近一是不没了])[{HAN}]\1(?!近)(?=[{HAN}])"),
    re.compile(rf"{START}([{HAN}]{{3,6}})(?:[{HAN}](?!对)[{HAN}]?|[嘛吧啊呢的情][，,])\1(?=[{HAN}])"),
)
"""Sentences begun again with one or two characters between: 我就我想."""
CONNECTING = frozenset("是性器剂集者师员率量到镇区村园路馆站景或和跟与不没比从也还就对打听校又更再当先做买长国过一中")
"""Characters that join two equal words in correct text: 几点到几点, 知道不知道."""
MEASURES = frozenset(LEXICON["measures"])
"""Measure words; 年 and 级 are none here, since 八八年 and 二二级 are years."""
ENUMERATING = frozenset(LEXICON["enumerating"])
"""What follows 一一, one by one: 一一列举."""
MEETING = frozenset(LEXICON["meeting"] + "好大小")
"""Characters that end a name or phrase as often as they begin the next word: 水镇镇子, 战争中中国."""
TRANSCRIBED = frozenset("巴库蒂莉娜妮迪菲萨卡贝杰丽莎珍琪咪嘟噜")
"""Characters that stand doubled in foreign names and in names of pets: 巴巴拉, 蒂蒂."""
SHARED = frozenset(("和平", "和谐", "和睦", "和气", "和解", "如何", "多样", "多元", "眨眼"))
"""Words before which their first character stands as a word of its own: 自由和和平, 更多多样的, 眨眨眼."""
ENDING = frozenset("于在到了得被把")
"""Characters that are said again after a word that ends with them: 位于于."""
FOLLOWING = frozenset("就也都又才还忽突便天")
"""What follows a verb said twice with 着, in the course of it: 走着走着就."""
DISTRIBUTED = frozenset("地的来去说看问讲做办查试数拿放走上下进出")
"""What follows a number said twice to mean one after the other: 两个两个来."""
OBJECTS = frozenset("了过着到的得")
"""What follows a verb that was not reduplicated to soften it: 介绍介绍了 is a slip, 介绍介绍 is none."""


NEEDED = (
    SaidAgain(joined={distance: distance for distance in range(3, MAX_CHARS + 1)}),
    SaidAgain(joined={2: 2}),
    SaidAgain(joined={1: 1}),
    SaidAgain(paused={distance: distance for distance in range(1, MAX_CHARS + 1)}),
    SaidAgain(
        joined={3: 2, 4: 2, 5: 3, 6: 4, 7: 5, 8: 6},
        paused={4: 3, 5: 4, 6: 5, 7: 6},
        begun=f"{PRONOUNS}对那这只成真就跟也都还去",
    ),
)
"""By rule, as they are listed below, what it needs to find anything."""


def repetitions(vocabulary: Callable[[], Vocabulary]) -> Iterator[Callable[[str], Iterator[Span]]]:
    """The rules, each from a text to spans, in the order in which they are tried."""
    for rule in (_phrases, _pairs, _characters, _paused, _resumed):
        yield partial(rule, vocabulary=vocabulary)


def _characters(text: str, vocabulary: Callable[[], Vocabulary]) -> Iterator[Span]:
    words: Words | None = None
    for match in CHARACTER.finditer(text):
        (start, end), unit, is_followed = match.span(), match[1], re.match(WORD, text[match.end() : match.end() + 1])
        if unit in TRANSCRIBED or text[end - 1 : end + 1] in SHARED:
            continue
        if unit in STUTTERED:
            if is_followed and text[start - 1 : end - 1] not in COMPOUNDS:
                yield start, end - 1
        elif end - start > 3 and unit in FREE_DOUBLES and unit not in EMPHATIC:
            yield start, end - 2
        elif end - start > 2:
            if unit not in EMPHATIC:
                yield start, end - 1
        elif unit in NUMERALS:
            if _is_numeral_begun(text, start, end):
                yield start, end - 1
        elif unit not in DOUBLED and is_followed:
            words = words or vocabulary().words(text)
            if _is_stutter(text, words, start, vocabulary()):
                yield start, end - 1


def _is_numeral_begun(text: str, start: int, end: int) -> bool:
    """Whether a figure that stands alone was stuttered: 两两个, 三三天; but neither 二零一一三五 nor 八八年."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if not NUMERALS.isdisjoint(before + after) or before in tuple("第唯万统"):
        return False
    if text[start] == "一":
        return re.match(WORD, after) is not None and after not in ENUMERATING
    return after != "" and after in MEASURES


def _is_stutter(text: str, words: Words, start: int, vocabulary: Vocabulary) -> bool:
    """Whether the first of two equal characters is a word begun too early: 特|特别, but neither 天天 nor 上海|海关."""
    unit, before, after = text[start], text[start - 1 : start], text[start + 2 : start + 6]
    is_four = after[:1] == after[1:2] or (start > 1 and before == text[start - 2])  # 高高兴兴
    if is_four or before in tuple("唯万统第老小阿") or (unit in "上下" and after[0] in "个周次月星礼签国下"):
        return False
    if after[0] in BEGUN_WORDS.get(unit, ""):
        return True
    if unit in MEETING and re.match(f"[{HAN}]", before):  # 水镇|镇子, 战争中|中国
        return False
    (at, first), (_, second) = words.at(start), words.at(start + 1)
    if at <= start - 1 and (vocabulary.holds(first) or first.isascii()):  # 上海|海关, 毛茸茸
        return at + len(first) == start + 1 and len(second) == 1 and unit in ENDING
    if unit in REDUPLICATED:
        return _is_begun(unit, after, vocabulary) or (len(first) == 1 < len(second))
    return not (len(first) > 2 and vocabulary.holds(first))


def _is_begun(unit: str, after: str, vocabulary: Vocabulary) -> bool:
    """Whether a character that is doubled on purpose goes on as another word: 早早上, 打打起来."""
    if unit in SOFTENED:
        return COMPLEMENTED.match(after) is not None
    return unit not in FREE_DOUBLES and vocabulary.holds(unit + after[0])


def _pairs(text: str, vocabulary: Callable[[], Vocabulary]) -> Iterator[Span]:
    for match in PAIR.finditer(text):
        start, end, unit = match.start(), match.end(), match[1]
        if (
            unit[0] == unit[1]
            or QUESTION.match(unit)
            or (unit in PLACES and re.match(f"[{HAN}]", text[start - 1 : start]))
        ):
            continue
        if NUMERALS.issuperset(unit):
            if unit[1] in "十百千万亿":
                yield start, end - 2
            continue
        words = vocabulary().words(text[end - 2 : end + 4])
        is_begun = len(words.at(0)[1]) > 2 and not vocabulary().holds(unit)  # 打电|打电话
        is_correct = _is_reduplicated(unit, text[end : end + 2], vocabulary()) or _is_answer(text, start, end)
        if is_begun or not is_correct:
            yield start, end - 2
        elif end - start > 4:
            yield start, end - 4


def _is_answer(text: str, start: int, end: int) -> bool:
    """Whether a whole clause is one word said twice."""
    return (start == 0 or not re.match(WORD, text[start - 1])) and not re.match(WORD, text[end : end + 1])


def _is_reduplicated(unit: str, after: str, vocabulary: Vocabulary) -> bool:
    """Whether a word of two characters stands twice on purpose."""
    follower, is_followed = after[:1], re.match(WORD, after) is not None
    if unit in EMPHATIC_WORDS or unit in UNREDUPLICATED:
        return unit in EMPHATIC_WORDS
    if unit[0] in "很太" or (unit[0] == "一" and unit != "一个"):  # but 很有很有名, 一部一部分
        return not (follower and vocabulary.holds(unit[1] + follower))
    if unit[1] == "着":
        return not is_followed or follower in FOLLOWING
    if unit[0] in NUMERALS:
        return unit[1] not in MEASURES or not is_followed or follower in DISTRIBUTED
    return _is_softened(unit, follower, vocabulary)


def _is_softened(unit: str, follower: str, vocabulary: Vocabulary) -> bool:
    """Whether a word may stand twice to soften it, or as a name."""
    if unit in SOFTENED_WORDS:
        return follower == "" or follower not in OBJECTS
    tag = vocabulary.tag(unit)
    if vocabulary.holds(unit + unit) or tag is None:
        return vocabulary.holds(unit + unit) or FUNCTIONAL.isdisjoint(unit)
    return tag in ("v", "vn", "vi", "z", "o") and re.match(WORD, follower) is None


def _phrases(text: str, vocabulary: Callable[[], Vocabulary]) -> Iterator[Span]:
    for match in PHRASE.finditer(text):
        unit = match[1]
        half = len(unit) // 2
        if len(set(unit)) > 1 and not (len(unit) % 2 == 0 and unit[:half] == unit[half:]) and not _is_number(unit):
            yield match.start(), match.end() - len(unit)


def _is_number(unit: str) -> bool:
    """Whether a phrase holds digits or figures read one by one."""
    return any(a in NUMERALS and b in NUMERALS for a, b in zip(unit, unit[1:] + unit[:1], strict=True))


def _paused(text: str, vocabulary: Callable[[], Vocabulary]) -> Iterator[Span]:
    for match in PAUSED_CHARACTER.finditer(text):
        if match[1] not in EMPHATIC and match[1] not in REDUPLICATED:
            yield match.start(), match.end() - 1
    for match in PAUSED.finditer(text):
        unit = match[1]
        if unit not in ANSWERS and unit not in EMPHATIC_WORDS and len(set(unit)) > 1 and not _is_number(unit):
            yield match.start(), match.end() - len(unit)
    for match in PAUSED_INSIDE.finditer(text):
        if _is_begun_inside(match[1], text[match.end() : match.end() + 3], vocabulary()):
            yield match.start(), match.end() - len(match[1])
    words: Words | None = None
    for match in BEGUN_WORD.finditer(text):
        words = words or vocabulary().words(text)
        (at, first), (_, second) = words.at(match.start()), words.at(match.end() - 1)
        is_word = len(second) == 1 and match[1] not in "您是会对的好行嗯哦车上下里中" + PRONOUNS
        is_alone = at == match.start() and len(first) == 1
        if is_alone and (is_word or (len(second) > 1 and match[1] != "车" and vocabulary().holds(second[:2]))):
            yield match.start(), match.end() - 1


def _is_begun_inside(unit: str, after: str, vocabulary: Vocabulary) -> bool:
    """Whether what stands on either side of a pause was begun again: 特别，特别厉害, but not 找酒店，酒店要.

    A noun or pronoun before the pause ends its clause; one that goes on as a longer word was begun.
    """
    if unit[-1] in "的了吗吧呢" or unit in PLACES or len(set(unit)) == 1 or _is_number(unit):
        return False
    longer = vocabulary.words(unit + after).at(0)[1]
    if len(longer) > len(unit):  # 抗美，抗美援朝
        return vocabulary.holds(longer)
    return vocabulary.tags(unit)[-1][0] not in "nrtvsf"


def _resumed(text: str, vocabulary: Callable[[], Vocabulary]) -> Iterator[Span]:
    """我是国我是国民: what was said again with one character between, which was the beginning of something else."""
    for match in RESUMED.finditer(text):
        unit, between = match[1], match[2]
        if len(set(unit)) == 1 or between in CONNECTING or between in unit or not NUMERALS.isdisjoint(unit + between):
            continue
        if between == "的" and vocabulary().tag(unit) not in (None, "r", "d", "c", "p"):
            continue
        yield match.start(), match.end() - len(unit)
    for pattern in BEGUN_AGAIN:
        for match in pattern.finditer(text):
            yield match.start(), match.end() - len(match[1])
