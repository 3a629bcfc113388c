"""Smooth spoken language: fillers, repetitions, self-repairs and grammar slips, in Chinese and English.

Precision before recall: correct reduplication (天天, 看看, 研究研究), numbers, real demonstratives (那个套餐) and
emphasis (好好好) stay. Native signs find the texts that may need work, pass by pass; only those are looked at one by one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

import curation.disfluencies as signs_of
from curation.draft import Draft, Edit
from curation.operator import PROPOSALS, OperatorConfig, Resources, operator

HAN = "\u4e00-\u9fff"
PAUSE = r"[，,、。…~～\s]"
ASKS = re.compile(r"(?:[？?]|[吗嘛呢吧没]|是不是|对不对|好不好|可以吗|right|ok)[。.!！？?\s]*$", re.IGNORECASE)

BARE_ZH = re.compile(rf"^(?=.*[嗯呃唔额])(?:[嗯呃唔额欸诶啊哦噢喔唉哎]|{PAUSE}|[.!！])+$")
BARE_EN = re.compile(r"^(?:(?:uh[- ]?huh|m+-?h+m+|um+|uh+|uhm+|erm*|hm+)[\s,.!…]*)+$", re.IGNORECASE)
CANONICAL_ZH = "嗯。"
CANONICAL_EN = "Mm-hmm."

START = r"(?:(?<=^)|(?<=[，,。.！!？?；;：:、…\s]))"
FILLERS_ZH = [
    re.compile(rf"[嗯呃唔]+(?:{PAUSE}*[嗯呃唔]+)*{PAUSE}*"),
    re.compile(rf"{START}额+(?:{PAUSE}+|(?=[我你他这那就是想要]))"),
    re.compile(rf"{START}(?:[啊哦噢喔唉哎欸诶]{{2,}}|[啊哦噢喔唉哎欸诶]+(?=[，,、…]))[，,、…~～\s]*"),
    re.compile(rf"{START}(?:那个|这个|就是|就是说|然后呢?|怎么说呢|我跟你讲|你知道吧)(?:[，,、…]+|\.{{3,}})\s*"),
    re.compile(r"(?:那个|这个)[，,、…]*(?:那个|这个)+[，,、…]+"),
    re.compile(rf"(?<=[{HAN}])[，,、]\s*(?:那个|就是说)[，,、…]+(?=[{HAN}])"),
]
FILLERS_EN = [
    re.compile(r"(?<![\w'-])(?:[Uu]m+|[Uu]h+m?|[Ee]rm?|[Hh]mm+)(?![\w'-])[,.…\s]*"),
    re.compile(rf"{START}(?:you know|i mean|well you know|so yeah)\s*[,…]+\s*", re.IGNORECASE),
    re.compile(r"(?<=\w),\s*(?:you know|like|i mean)(?=,)", re.IGNORECASE),
]

STUTTERED = "我你您他她它这那就在要把给跟和被让从到因所但如能会该"
"""Characters that never stand doubled in correct text; a doubled one is a stutter."""
STUTTER = re.compile(rf"([{STUTTERED}])\1+(?=[{HAN}A-Za-z0-9])")
PAUSED_STUTTER = re.compile(rf"{START}([{STUTTERED}])(?:[，,、…\s]+\1)+(?=[{HAN}A-Za-z0-9])")
TRIPLED = re.compile(rf"([{HAN}])\1{{2,}}")
EMPHASIS = set("好对是行哈嘿呵呜嘻啦哇不没来快慢真太很谢早走等别停一二三四五六七八九十百千零〇")
PHRASES = (
    "我们|你们|他们|咱们|这个|那个|就是|然后|因为|所以|但是|如果|或者|还是|而且|其实|怎么|什么|一个|那种|这种|现在|今天|"
    "明天|我想|我要|你看|想要|需要|帮我|能不能|是不是|有没有|可不可以|怎么样|为什么|多少|的话"
)
PHRASE_TWICE = re.compile(rf"({PHRASES})(?:[，,、…\s]*\1)+")
LONG_TWICE = re.compile(rf"([{HAN}]{{3,10}})\1")
BEGUN = "我你您他她这那就要想能可把给帮请"
RESTART = re.compile(rf"{START}([{BEGUN}][{HAN}]{{1,7}})[，,、…]+\s*(?=\1[{HAN}])")
ANSWERS = ("可以", "可以的", "能", "要的", "不要")
"""Said before a pause, these answer something; said again after it, they begin a sentence."""
WORDS_EN = (
    "i|the|a|an|to|we|my|it|is|in|of|and|you|he|she|they|can|could|want|need|for|on|at|with|this|but|so|if|was|are"
)
TWICE_EN = re.compile(rf"(?<![\w'-])({WORDS_EN})(?:[,…\s]+\1)+(?=\s+\w)", re.IGNORECASE)
PHRASE_TWICE_EN = re.compile(r"(?<![\w'-])(\w+(?:\s+[\w']+){1,4})\s*[,…]*\s+\1(?=\s+\w)", re.IGNORECASE)

MARK_ZH = re.compile(
    r"[，,、。\s]*(?:(?<!对)不对不对|(?<!对)不对|[哦噢啊]不是?|不是不是|我?说错了|我?讲错了|口误)[，,、\s]*(?:应该是|是|我是说)?"
)
MARK_EN = re.compile(
    r"(?:[,\s]+(?:no[,\s]+wait|wait[,\s]+no|no[,\s]+sorry|sorry[,\s]+no|no[,\s]+i mean|no[,\s]+actually|scratch that)"
    r"|,\s*(?:i mean|or rather|make that|sorry))[,\s]+",
    re.IGNORECASE,
)
NUMBER = r"(?:\d+(?:\.\d+)?|[零〇一二两三四五六七八九十百千万]+)"
QUANTITY = re.compile(rf"{NUMBER}([{HAN}]{{1,2}})$")
MAX_REPAIR_CHARS = 10

GRAMMAR = [
    re.compile(r"(?<!目)的(?=的(?!确|哥|士))"),
    re.compile(r"了(?=了(?:[，。！？,.!?\s]|$))"),
    re.compile(r"([吗呢吧])(?=\1)"),
    re.compile(r"([，、；])(?=[，、；])"),
]

REPETITION_SIGNS = signs_of.repetitions(STUTTERED, PHRASES, BEGUN, WORDS_EN)
MAX_PASSES = 4


class SmoothDisfluency(OperatorConfig):
    """Removes fillers, repetitions, self-repairs and grammar slips of spoken language, in Chinese and English."""

    fillers: bool = True
    """Drop interjections and empty phrases such as 嗯, 呃, 那个，, um, you know. An utterance that is only a filler is
    kept in one canonical form, since it may be an answer."""
    repetitions: bool = True
    """Say once what was stuttered: 我我我想 becomes 我想."""
    repairs: bool = True
    """Keep what the speaker corrected to: 去北京不对去上海 becomes 去上海."""
    grammar: bool = True
    """Mend doubled particles and doubled punctuation."""
    roles: tuple[str, ...] = ("user", "assistant")
    """Roles whose turns are smoothed."""
    extra_fillers: tuple[str, ...] = ()
    """Further words to drop where they stand between pauses."""
    keep: tuple[str, ...] = ()
    """Phrases that stay untouched, product names for example."""


@operator(
    kind="smooth_disfluency",
    version=2,
    scope="turn",
    config=SmoothDisfluency,
    reads=("role", "text"),
    codes=("filler", "repetition", "repair", "grammar"),
)
def smooth_disfluency(turns: pl.DataFrame, config: SmoothDisfluency, resources: Resources) -> pl.DataFrame:
    """Proposes the edits of each turn."""
    rules = Rules.of(config)
    drafts: dict[int, Draft] = {}
    bare: dict[int, Edit] = {}
    open_texts = turns.filter(pl.col("role").is_in(config.roles)).select("row", "text")
    for _ in range(MAX_PASSES):
        changed = []
        for row, text, *signs in _with_signs(open_texts, config).iter_rows():
            if row not in drafts and (canonical := _bare(text)) is not None:
                bare |= {row: (0, len(text), canonical, "filler")} if _is_mended(text, canonical, config) else {}
                continue
            draft = drafts.setdefault(row, Draft(text))
            if _change(draft, rules, signs):
                changed.append((row, draft.text))
        open_texts = pl.DataFrame(changed, open_texts.schema, orient="row")
    edits = {row: _edits(draft) for row, draft in drafts.items()} | {row: [edit] for row, edit in bare.items()}
    rows = [(row, "edit", *edit, None) for row in sorted(edits) for edit in edits[row]]
    return pl.DataFrame(rows, PROPOSALS, orient="row")


def smooth(text: str, config: SmoothDisfluency) -> list[Edit]:
    """Edits (start, end, replacement, code) that smooth one utterance; offsets into `text`."""
    if (canonical := _bare(text)) is not None:
        return [(0, len(text), canonical, "filler")] if _is_mended(text, canonical, config) else []
    draft, rules = Draft(text), Rules.of(config)
    for _ in range(MAX_PASSES):
        if not _change(draft, rules, (True,) * len(SIGNS)):
            break
    return _edits(draft)


@dataclass(frozen=True)
class Rules:
    """What a config asks for."""

    config: SmoothDisfluency
    fillers: list[re.Pattern[str]]
    protect: re.Pattern[str] | None

    @classmethod
    def of(cls, config: SmoothDisfluency) -> "Rules":
        """The rules of a config, compiled."""
        kept = "|".join(map(re.escape, sorted(config.keep, key=len, reverse=True)))
        fillers = [*FILLERS_ZH, *FILLERS_EN, *_extra_fillers(config.extra_fillers)]
        return cls(config, fillers, re.compile(kept) if kept else None)


SIGNS = ("filler", "repetition", "repair", "grammar")
"""Kinds of rules, in the order in which they are tried."""


def _with_signs(texts: pl.DataFrame, config: SmoothDisfluency) -> pl.DataFrame:
    """Those texts that have signs, each with a column a kind; all others have nothing to smooth."""
    text = texts["text"]
    extra = [re.escape(word) for word in config.extra_fillers]
    repeats = signs_of.hold(text, REPETITION_SIGNS) | signs_of.repeat_han(text) | signs_of.repeat_words(text)
    found = {
        "filler": signs_of.hold(text, [*signs_of.FILLERS, *extra]),
        "repetition": repeats,
        "repair": signs_of.hold(text, signs_of.REPAIRS),
        "grammar": signs_of.hold(text, signs_of.GRAMMAR),
    }
    return texts.with_columns(**found).filter(pl.any_horizontal(SIGNS)).select("row", "text", *SIGNS)


def _change(draft: Draft, rules: Rules, signs: Sequence[bool]) -> bool:
    """One pass of the rules; kinds without a sign are tried once the text is no longer the one that had none."""
    before, config = draft.text, rules.config
    filler, repetition, repair, grammar = signs
    if config.fillers and filler:
        _delete_all(draft, rules.fillers, "filler", rules.protect)
    if config.repetitions and (repetition or draft.text != before):
        _delete_repetitions(draft, rules.protect)
    if config.repairs and (repair or draft.text != before):
        _delete_repairs(draft, rules.protect)
    if config.grammar and (grammar or draft.text != before):
        _delete_all(draft, GRAMMAR, "grammar", rules.protect)
    return draft.text != before


def _bare(text: str) -> str | None:
    """The canonical form of an utterance that is only a filler."""
    return CANONICAL_ZH if BARE_ZH.match(text) else CANONICAL_EN if BARE_EN.match(text) else None


def _is_mended(text: str, canonical: str, config: SmoothDisfluency) -> bool:
    return bool(config.fillers and text != canonical and text.strip())


def _edits(draft: Draft) -> list[Edit]:
    return _capitalise(draft, draft.edits()) if re.search(r"\w", draft.text) else []


def _extra_fillers(words: Iterable[str]) -> list[re.Pattern[str]]:
    escaped = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return [re.compile(rf"{START}(?:{escaped}){PAUSE}+")] if escaped else []


def _delete_all(draft: Draft, patterns: list[re.Pattern[str]], code: str, protect: re.Pattern[str] | None) -> None:
    for pattern in patterns:
        gone = len(draft.text)  # a filler may take along the pause before it, which ended the match before
        for match in reversed(list(pattern.finditer(draft.text))):
            start, end = match.start(), min(match.end(), gone)
            if not _is_protected(draft.text, start, end, protect):
                start, end = _with_pause(draft.text, start, end) if code == "filler" else (start, end)
                draft.delete(start, end, code)
                gone = start


def _with_pause(text: str, start: int, end: int) -> tuple[int, int]:
    """A filler's own pause goes with it; the pause that ends a sentence stays."""
    removed = text[start:end]
    stripped = removed.rstrip()
    if stripped and stripped[-1] in "。." and start > 0:
        end = start + len(stripped) - 1
    elif start > 0 and text[start - 1] in "，,、" and (end == len(text) or text[end] in "。！？!?."):
        start -= 1
    return start, end


def _delete_repetitions(draft: Draft, protect: re.Pattern[str] | None) -> None:
    """Deletes all but the last of what was said several times in a row."""
    for pattern in (STUTTER, PAUSED_STUTTER, PHRASE_TWICE, LONG_TWICE, RESTART, TWICE_EN, PHRASE_TWICE_EN, TRIPLED):
        for match in reversed(list(pattern.finditer(draft.text))):
            start, end, unit = match.start(), match.end(), match.group(1)
            if _is_protected(draft.text, start, end, protect) or _is_correct(pattern, unit, draft.text, match):
                continue
            # A restart's pattern ends before its second part, the others' with it.
            draft.delete(start, end if pattern is RESTART else end - len(unit), "repetition")


def _is_correct(pattern: re.Pattern[str], unit: str, text: str, match: re.Match[str]) -> bool:
    if pattern is TRIPLED:
        return unit in EMPHASIS
    if pattern is LONG_TWICE:
        return len(set(unit)) == 1 or re.search(NUMBER, unit) is not None
    return pattern is RESTART and unit in ANSWERS


def _delete_repairs(draft: Draft, protect: re.Pattern[str] | None) -> None:
    """Deletes what the speaker took back, and the words by which they did."""
    for marks, joint in ((MARK_ZH, _reparandum_zh), (MARK_EN, _reparandum_en)):
        for match in reversed(list(marks.finditer(draft.text))):
            start = joint(draft.text[: match.start()], draft.text[match.end() :])
            if start is not None and not _is_protected(draft.text, start, match.end(), protect):
                draft.delete(start, match.end(), "repair")


def _reparandum_zh(before: str, after: str) -> int | None:
    """Where the part taken back begins: at the words that the correction takes up again."""
    clause = re.split(r"[。！？!?；;]", before)[-1][-MAX_REPAIR_CHARS - 3 :]
    offset = len(before) - len(clause)
    for size in (4, 3, 2, 1):
        anchor = after[:size]
        if len(anchor) < size or not re.fullmatch(rf"[{HAN}A-Za-z0-9]+", anchor):
            continue
        at = clause.rfind(anchor)
        replaced = clause[at + size :]
        if at >= 0 and not replaced:
            return None  # 号码不对，号码是…: a statement, not a repair
        if at >= 0 and len(replaced) <= MAX_REPAIR_CHARS and not re.search(r"[的是，,]", replaced):
            return offset + at
    quantity = QUANTITY.search(clause)
    if quantity and re.match(NUMBER + quantity.group(1), after):
        return offset + quantity.start()
    return None


def _reparandum_en(before: str, after: str) -> int | None:
    words = list(re.finditer(r"[\w']+", before))[-5:]
    first = re.match(r"[\w']+", after)
    if first is None:
        return None
    for word in reversed(words[:-1] if len(words) > 1 else words):
        if word.group().lower() == first.group().lower():
            return word.start()
    if words and words[-1].group().isdigit() and first.group().isdigit():
        return words[-1].start()
    return None


def _is_protected(text: str, start: int, end: int, protect: re.Pattern[str] | None) -> bool:
    return protect is not None and any(m.start() < end and start < m.end() for m in protect.finditer(text))


def _capitalise(draft: Draft, edits: list[Edit]) -> list[Edit]:
    """An English sentence that lost its first word begins with a capital again."""
    if not edits or edits[0][0] != 0 or not draft.original[0].isupper():
        return edits
    start, end, _, code = edits[0]
    follower = draft.original[end : end + 1]
    if follower.islower() and follower.isascii() and (len(edits) == 1 or edits[1][0] > end):
        return [(start, end + 1, follower.upper(), code), *edits[1:]]
    return edits
