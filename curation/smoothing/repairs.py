"""Self-repairs: what a speaker took back, and the words by which they did (去北京不对去上海; Boston, no wait, Denver)."""

import re
from collections.abc import Iterator

from curation.smoothing.repetitions import HAN, LEXICON, Span

MARK_ZH = re.compile(
    r"[，,、。\s]{0,3}(?:(?<!对)不对不对|(?<!对)不对|[哦噢啊]不是?|不是不是|我?说错了|我?讲错了|口误)[，,、\s]{0,3}(?:应该是|是|我是说)?"
)
NUMBER = r"(?:\d+(?:\.\d+)?|[零〇一二两三四五六七八九十百千万]+)"
QUANTITY = re.compile(rf"{NUMBER}([{HAN}]{{1,2}})$")
MAX_REPAIR_CHARS = 10

HESITATION = r"oh|uh+|um+|er+|erm+|ugh|well|or|so"
TAKING_BACK = r"no|nope|wait|sorry|i'm sorry|actually|rather|instead|i meant?|make that|scratch that|let me say|tell me|i want to know"
SEPARATOR = r"[,\s]{1,3}"
MARK_EN = re.compile(
    rf"(?:{SEPARATOR}(?:{HESITATION}|{TAKING_BACK})(?![\w'-])){{1,6}}(?={SEPARATOR}[\w'])", re.IGNORECASE
)
TAKES_BACK = re.compile(rf"(?<![\w'-])(?:{TAKING_BACK})(?![\w'-])", re.IGNORECASE)
CERTAIN = re.compile(
    r"no[,\s]+wait|wait[,\s]+no|no[,\s]+sorry|sorry[,\s]+no|no[,\s]+i'?m sorry|no[,\s]+no(?![\w'])|no[,\s]+i meant?|no[,\s]+actually|no[,\s]+make|no[,\s]+rather"
    r"|or[,\s]+(?:rather|wait|make|actually|sorry)|(?:uh+|um+|er+)[,\s]+(?:no|i meant?|rather|actually|make|sorry)|^,\s*make that|scratch that|i meant",
    re.IGNORECASE,
)  # fmt: skip
WORD = re.compile(r"[\w'-]+")
ASKING = frozenset(LEXICON["asking_english"].split())
LEADING = frozenset(LEXICON["leading_english"].split())
ARTICLES = frozenset(("the", "a", "an"))
UNREPLACED = frozenset(LEXICON["unreplaced_english"].split())
"""Words that begin something else after a mark, or that nobody takes back alone."""
MAX_REPAIR_WORDS = 12

WORDS_EN = (
    "i|the|a|an|to|we|my|it|is|in|of|and|you|he|she|they|can|could|want|need|for|on|at|with|this|but|so|if|was|are"
)
TWICE_EN = re.compile(rf"(?<![\w'-])(?<!thank )({WORDS_EN})(?:[,…\s]{{1,3}}\1){{1,8}}(?=\s+\w)", re.IGNORECASE)
PHRASE_TWICE_EN = re.compile(
    r"(?<![\w'-])(\w{1,30}(?:\s{1,3}[\w']{1,30}){1,4})\s{0,3}[,…]*\s{1,3}\1(?=\s+\w)", re.IGNORECASE
)


def repetitions_en(text: str) -> Iterator[Span]:
    """English words and phrases said twice; the last stays."""
    for pattern in (TWICE_EN, PHRASE_TWICE_EN):
        for match in pattern.finditer(text):
            yield match.start(), match.end() - len(match[1])


def repairs(text: str) -> list[Span]:
    """What was taken back, each with the words by which it was."""
    return [*_repairs_zh(text), *_repairs_en(text)]


def _repairs_zh(text: str) -> Iterator[Span]:
    for match in MARK_ZH.finditer(text):
        start, end = match.span()
        before = text[max(0, start - MAX_REPAIR_CHARS - 3) : start]
        kept = _reparandum_zh(before, text[end : end + 12])
        if kept is not None:
            yield start - len(before) + kept, end


def _reparandum_zh(before: str, after: str) -> int | None:
    """Where the part taken back begins: at the words that the correction takes up again."""
    clause = re.split(r"[。！？!?；;]", before)[-1]
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


def _repairs_en(text: str) -> Iterator[Span]:
    for match in MARK_EN.finditer(text):
        if TAKES_BACK.search(match[0]) is None and not re.search(r"\bor\W+(?:u|e)", match[0], re.IGNORECASE):
            continue
        start, follower = match.start(), WORD.search(text, match.end())
        assert follower is not None  # the mark's pattern looks ahead to it
        sentence = re.split(r"[.?!\n]\s", text[max(0, start - 200) : start])[-1]
        words = list(WORD.finditer(sentence))[-MAX_REPAIR_WORDS:]
        if not words:
            continue
        found = _reparandum_en(sentence, words, match[0], follower[0])
        if found is not None:
            yield start - len(sentence) + found, follower.start()


def _reparandum_en(sentence: str, words: list[re.Match[str]], mark: str, follower: str) -> int | None:
    """Where the part taken back begins: at the word that the correction replaces."""
    last, lower, is_certain = words[-1][0], follower.lower(), CERTAIN.search(mark) is not None
    said_no = re.search(r"\bno\b", mark) is not None
    if lower in ASKING and sentence[: words[0].start()].strip() == "" and words[0][0].lower() in {*ASKING, "to", "in"}:
        return words[0].start()
    for word in reversed(words):
        if word[0].lower() == lower and (is_certain or (said_no and lower in ARTICLES)) and lower not in UNREPLACED:
            return word.start()
    if follower[0].isupper() and last[0].isupper() and len(words) > 1 and (is_certain or said_no):
        first = len(words) - 1
        while first > 1 and words[first - 1][0][0].isupper():
            first -= 1
        return words[first].start()
    if last.isdigit() and lower.isdigit() and (is_certain or said_no):
        return words[-1].start()
    is_replaced = is_certain and not {lower, last.lower()} & (UNREPLACED | LEADING | ASKING) and len(words) > 1
    return words[-1].start() if is_replaced and last.isalpha() and lower.isalpha() else None
