"""Signs of spoken language, found natively: which kinds of smoothing a text may need.

A sign is a necessary condition: without it, none of the rules of its kind matches in the text. Rules are expressions
of Python's `re` with back-references and look-around; signs are expressions without either, for Rust's engine, and
comparisons of code points with their neighbours.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from curation.compiled import pays
from curation.text_blocks import Block, in_blocks

FIRST_HAN, LAST_HAN = "\u4e00", "\u9fff"
PAUSES = "，,、… "
EMPTY_PHRASES = ("就是", "那个", "这个")
NEEDED = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6, 9: 9, 10: 10, 11: 11, 12: 12}
"""By distance, how many characters in a row are said again: all of them; of 3 and 4 all but one, of 5 to 8 all but two,
since the last may be the beginning of something else."""
SAID_AGAIN = re.compile(
    rf"([{FIRST_HAN}-{LAST_HAN}]{{2}})(?:{'|'.join(EMPTY_PHRASES)})\1|"
    + "|".join(
        rf"([{FIRST_HAN}-{LAST_HAN}]{{{needed}}}).{{{distance - needed}}}\{group}"
        for group, (distance, needed) in enumerate(NEEDED.items(), 2)
    ),
    re.DOTALL,
)
"""For few texts: whatever `repeat_kernels` tells, and more."""
S = r"\s\x1c-\x1f"
"""White space as Python sees it."""
START = rf"(?:^|[，,。.！!？?；;：:、…{S}])"
PAUSE = rf"[，,、。…~～{S}]"
HAN = r"\u4e00-\u9fff"
WORD = f"[{HAN}A-Za-z0-9]"
SEVERAL_WORDS = rf"(?:[{S}]+[^{S}]+){{4}}"
ALONE = ("(?:^|[^A-Za-z0-9_'-])", "(?:$|[^A-Za-z0-9_'-])")

FILLERS = [
    r"[嗯呃唔诶]",
    rf"{START}额",
    rf"^[嗯呃唔额欸诶啊哦噢喔唉哎.!！，,、。…~～{S}]+$",
    r"(?i)^(?:um|uh|er|hm|m+-?h)",
    rf"{START}[啊哦噢喔唉哎欸诶]+[啊哦噢喔唉哎欸诶，,、…]",
    rf"{START}(?:[啊欸哎唉][{HAN}]|就是[{HAN}])|[{HAN}][唉欸哎]|[{HAN}][啊呐嘛呀呢吧][{HAN}]|[{HAN}，,][哦噢][{HAN}]|[{HAN}]{{3}}嘛[，,]",
    rf"怎么说呢[{HAN}]|[是对]吧[{HAN}]|那个什么[{HAN}]|(?:为了|可以|应该|开始)那个[{HAN}]|那个[啥一自大人这那就都也不有我你他她它咱]|一个那个|这个这|那种那|一个一|就是就|(?:然后|那种|一[个些]|[了对])就是|就就"
    rf"|[{HAN}]就[我他她]|什么的",
    rf"[{HAN}]哈[我你他她它这那就]|[{HAN}]嘞[，,{HAN}]|{START}[哦噢]+[{HAN}]|然后(?:后来|接着)",
    rf"{START}(?:那个|这个|就是|就是说|然后呢|怎么说呢|我跟你讲|你知道吧)(?:[，,、…]|\.\.\.)",
    r"[那这]个[，,、…]*(?:那个|这个)+[，,、…]",
    rf"[{HAN}][，,、][{S}]*(?:那个|就是说)[，,、…]+[{HAN}]",
    rf"{ALONE[0]}(?:[Uu]m+|[Uu]h+m?|[Ee]rm?|[Hh]mm+){ALONE[1]}",
    rf"(?i){START}(?:you know|i mean|well you know|so yeah)[{S}]*[,…]",
    rf"(?i),[{S}]*(?:you know|like|i mean),",
]
REPAIRS = [
    r"(?:^|[^对])不对|[哦噢啊]不|不是不是|[说讲]错了|口误",
    rf"(?i)[,{S}](?:no|nope|wait|sorry|i'm sorry|actually|rather|instead|i meant?|make that|scratch that|let me say"
    rf"|tell me|i want to know|or[,{S}]+(?:u|e)[a-z]+)[,{S}]",
]
GRAMMAR = [
    r"的的",
    rf"了了(?:[，。！？,.!?{S}]|$)",
    r"吗吗|呢呢|吧吧",
    r"[，、；][，、；。！？]|[。！？][，、；]|^[，、；]",
    rf"个个[{HAN}]|[一二两三四五六七八九十几]个[只条张本辆件块瓶杯座双间棵颗匹架艘幅盏朵]",
    r"的(?:都|也)?(?:[很太挺真好]|非常|特别|这么|那么|越来越|格外|十分|不错|不得了)|(?:慢慢|渐渐|悄悄|偷偷|默默|轻轻|静静|匆匆|紧紧|牢牢|狠狠|好好|缓缓|暗暗)的",
]


def repetitions(stuttered: str, words: str) -> list[str]:
    """Signs of what is said twice with a pause between or none, from the characters and words looked for."""
    between = rf"[，,、…{S}]"
    return [
        rf"{START}(?:[我你他她它咱](?:那个|就是|也是|一个)[我你他她它咱])",
        rf"(?:{'|'.join(f'{c}[{HAN}]{c}' for c in '我你他她它咱就跟也都还去那这只成真')})",
        rf"{START}对对+[我你他她它咱]",
        rf"{START}(?:{'|'.join(f'{c}[{HAN}][，,]{c}' for c in '我你他她它咱')})",
        rf"(?:{'|'.join(c + c for c in stuttered)}){WORD}",
        rf"{START}(?:{'|'.join(f'{c}{between}+{c}' for c in stuttered)}){WORD}",
        rf"(?i)(?:{'|'.join(f'{word}[,…{S}]+{word}' for word in words.split('|'))})[{S}]",
    ]


def hold(texts: pl.Series, signs: Iterable[str]) -> pl.Series:
    """Which texts hold any of the signs."""
    return texts.str.contains("|".join(f"(?:{sign})" for sign in signs))


def repeat_words(texts: pl.Series) -> pl.Series:
    """Which texts of several words with spaces between say any of them twice."""
    found = texts.str.contains(SEVERAL_WORDS)
    if found.any():
        words = texts.filter(found).str.to_uppercase().str.to_lowercase().str.extract_all(r"\w+")
        found = found.scatter(found.arg_true(), words.list.n_unique() < words.list.len())
    return found


@dataclass(frozen=True)
class SaidAgain:
    """What a rule of repetitions needs: characters said again, so many in a row, by distance; any of it will do."""

    joined: Mapping[int, int] = field(default_factory=dict)
    """Without a pause between."""
    paused: Mapping[int, int] = field(default_factory=dict)
    """From a pause on."""
    begun: str = ""
    """Or one of these characters twice, with two others between at most."""


EVERY_RULE = -1
"""A bit for every rule there may be."""


def rules_of_repeats(texts: pl.Series, rules: Sequence[SaidAgain]) -> pl.Series:
    """For each text a number with a bit for each of the rules that may find something."""
    if not pays(int(texts.str.len_bytes().sum() or 0)):
        return pl.repeat(EVERY_RULE, len(texts), dtype=pl.Int64, eager=True)
    from curation.repeat_kernels import BEGINNING, measure_repeats

    furthest = max(distance for rule in rules for distance in (*rule.joined, *rule.paused))
    kinds = _kinds({BEGINNING: "".join(rule.begun for rule in rules)})
    bits = [np.zeros(0, dtype=np.int64)]
    for block in in_blocks(texts):
        joined, paused, begun = measure_repeats(block.points, _bounds(block), kinds, furthest)
        found = np.zeros(len(begun), dtype=np.int64)
        for bit, rule in enumerate(rules):
            may = begun & bool(rule.begun)
            for lengths, needed in ((joined, rule.joined), (paused, rule.paused)):
                for distance, length in needed.items():
                    may = may | (lengths[:, distance] >= length)
            found |= may.astype(np.int64) << bit
        bits.append(found)
    return pl.Series(np.concatenate(bits))


def repeat_han(texts: pl.Series, doubled: str, emphatic: Iterable[str] = ()) -> pl.Series:
    """Which texts say Chinese characters twice in a row, pauses and one character between them set aside.

    Characters of `doubled` count from three in a row on, those of `emphatic` as two in a row only.
    """
    if not pays(int(texts.str.len_bytes().sum() or 0)):
        said = texts.str.replace_all(f"[{PAUSES}]", "")
        return pl.Series([SAID_AGAIN.search(text) is not None for text in said], dtype=pl.Boolean)
    from curation.repeat_kernels import EMPHATIC, EXPECTED, find_repeats

    kinds = _kinds({EXPECTED: doubled, EMPHATIC: "".join(emphatic)})
    phrases = np.array([ord(phrase[0]) << 16 | ord(phrase[1]) for phrase in EMPTY_PHRASES], dtype=np.uint32)
    needed = np.array([0, *NEEDED.values()])
    parts = [find_repeats(block.points, _bounds(block), kinds, phrases, needed) for block in in_blocks(texts)]
    return pl.Series(np.concatenate(parts) if parts else [], dtype=pl.Boolean)


def _kinds(of: Mapping[int, str]) -> npt.NDArray[np.uint8]:
    """The kinds of code points, as `repeat_kernels` wants them."""
    from curation.repeat_kernels import HAN_CHARACTER, LAST_POINT, PAUSE

    kinds = np.zeros(LAST_POINT + 1, dtype=np.uint8)
    kinds[ord(FIRST_HAN) : ord(LAST_HAN) + 1] = HAN_CHARACTER
    for kind, characters in ((PAUSE, PAUSES), *of.items()):
        kinds[[ord(character) for character in characters]] |= kind
    return kinds


def _bounds(block: Block) -> npt.NDArray[np.int64]:
    """Where the texts of a block begin, and one more would."""
    return np.append(block.begins, len(block.text) + 1)
