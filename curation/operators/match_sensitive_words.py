"""Find sensitive words, in all their spellings, by one automaton over folded text."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import polars as pl
from ahocorasick_rs import AhoCorasick, MatchKind
from pydantic import Field

from curation.operator import PROPOSALS, Lexicon, OperatorConfig, Resources, operator

BUILTIN = Path(__file__).parent.parent / "lexicons" / "sensitive_words.txt"
HAN_DIGITS = dict(zip("零〇一二三四五六七八九壹贰叁肆伍陆柒捌玖两", "001234567891234567892", strict=True))


class MatchSensitiveWords(OperatorConfig):
    """Finds words of lexicons and masks them, or drops, flags or unlearns what holds them."""

    words: tuple[str, ...] = ()
    """Words of your own; with neither words nor lexicons, the built-in lexicon."""
    lexicons: tuple[str, ...] = ()
    """Ids of lexicons."""
    allow: tuple[str, ...] = ()
    """Phrases in which a listed word is allowed."""
    action: Literal["mask", "drop_turn", "drop_conversation", "flag", "no_learn"] = "mask"
    """What happens to a hit; no_learn keeps the turn as context that is not learned."""
    mask: str = Field(default="*", min_length=1, max_length=1)
    """Stands for each masked character."""
    learn_masked: bool = False
    """Learn replies that were masked; otherwise they stay as context."""
    ignore_case: bool = True
    """FUCK is fuck."""
    ignore_width: bool = True
    """Full-width letters and digits are their half-width forms."""
    ignore_digit_style: bool = True
    """三, ③, ３ and 3 are one."""
    ignore_letter_style: bool = True
    """Ⓕ, ⒡ and f are one."""
    word_boundary: bool = True
    """Words of Latin letters match as whole words only: av does not match in have."""
    number_boundary: bool = False
    """Words of digits match as whole numbers only."""
    overlapping: bool = False
    """Report every match; overrides longest."""
    longest: bool = True
    """Of matches that begin at one place, take the longest; otherwise the shortest."""


@dataclass(frozen=True)
class Match:
    """A hit: code-point offsets into the text as given."""

    word: str
    start: int
    end: int
    category: str | None


class Matcher:
    """The automaton of a set of words under matching options."""

    def __init__(self, lexicons: Sequence[Lexicon], options: MatchSensitiveWords) -> None:
        self._options = options
        self._fold = _Folding(options)
        listed: dict[str, tuple[str, str | None]] = {}
        for lexicon in lexicons:
            for word in lexicon.words:
                if folded := word.strip().translate(self._fold):
                    listed.setdefault(folded, (word.strip(), lexicon.category))
        allowed = {word.strip().translate(self._fold) for lexicon in lexicons for word in lexicon.allow} - {""}
        self._patterns = [*listed, *(allowed - set(listed))]
        self._words = list(listed.values())
        self._automaton = AhoCorasick(self._patterns, matchkind=MatchKind.Standard) if self._patterns else None

    def find(self, text: str) -> list[Match]:
        """The matches in a text, by place; none of them overlap unless the options ask for all."""
        if self._automaton is None:
            return []
        folded = text.translate(self._fold)
        hits = self._automaton.find_matches_as_indexes(folded, overlapping=True)
        allowed = [(start, end) for index, start, end in hits if index >= len(self._words)]
        found = [
            (start, end, index)
            for index, start, end in hits
            if index < len(self._words)
            and self._stands_alone(folded, start, end)
            and not any(a <= start and end <= b for a, b in allowed)
        ]
        if not self._options.overlapping:
            found = list(_leftmost(found, longest=self._options.longest))
        return [Match(*self._named(index, start, end)) for start, end, index in sorted(found)]

    def _named(self, index: int, start: int, end: int) -> tuple[str, int, int, str | None]:
        word, category = self._words[index]
        return word, start, end, category

    def _stands_alone(self, text: str, start: int, end: int) -> bool:
        """Whether a Latin word, or a number where asked for, is not part of a longer one."""
        checks: list[Callable[[str], bool]] = []
        if self._options.word_boundary:
            checks.append(_is_latin)
        if self._options.number_boundary:
            checks.append(_is_digit)
        for same in checks:
            if start and same(text[start]) and same(text[start - 1]):
                return False
            if end < len(text) and same(text[end - 1]) and same(text[end]):
                return False
        return True


@operator(
    kind="match_sensitive_words",
    version=1,
    scope="turn",
    config=MatchSensitiveWords,
    reads=("text",),
    codes=("sensitive_word",),
)
def match_sensitive_words(turns: pl.DataFrame, config: MatchSensitiveWords, resources: Resources) -> pl.DataFrame:
    """Proposes a mask per hit, or one verdict per turn."""
    own = (Lexicon(config.words, config.allow),) if config.words or config.allow else ()
    matcher = _matcher((*own, *resources.lexicons), config)
    rows = []
    for row, text in turns.select("row", "text").iter_rows():
        for match in matcher.find(text):
            code = match.category or "sensitive_word"
            shown = (
                config.mask * (match.end - match.start) if config.action == "mask" else text[match.start : match.end]
            )
            rows.append((row, config.action, match.start, match.end, shown, code, None))
    frame = pl.DataFrame(rows, PROPOSALS, orient="row")
    if config.action in ("drop_turn", "no_learn"):
        return frame.unique("row", keep="first", maintain_order=True).with_columns(
            start=pl.lit(None, pl.Int64), end=pl.lit(None, pl.Int64), replacement=pl.lit(None, pl.String)
        )
    return _joined(frame) if config.action == "mask" and config.overlapping else frame


def builtin_lexicon() -> Lexicon:
    """The small, precise word list that comes with Talkmill."""
    return _builtin()


@lru_cache(maxsize=1)
def _builtin() -> Lexicon:
    lines = (line.strip() for line in BUILTIN.read_text("utf-8").splitlines())
    return Lexicon(tuple(line for line in lines if line and not line.startswith("#")))


@lru_cache(maxsize=8)
def _matcher(lexicons: tuple[Lexicon, ...], options: MatchSensitiveWords) -> Matcher:
    return Matcher(lexicons, options)


def _leftmost(found: Iterable[tuple[int, int, int]], *, longest: bool) -> Iterable[tuple[int, int, int]]:
    """Matches without overlap: the leftmost first, of those the longest or the shortest."""
    position = 0
    for start, end, index in sorted(found, key=lambda hit: (hit[0], -hit[1] if longest else hit[1])):
        if start >= position:
            yield start, end, index
            position = end


def _joined(masks: pl.DataFrame) -> pl.DataFrame:
    """Masks of one turn that overlap, as one."""
    ordered = masks.sort("row", "start", "end")
    reach = pl.col("end").cum_max().shift(1).over("row")
    run = (pl.col("start") >= reach).fill_null(value=True).cum_sum().over("row").alias("run")
    joined = ordered.with_columns(run).group_by("row", "run", maintain_order=True)
    spans = joined.agg("action", "start", "code", "score", pl.col("end").max(), pl.col("replacement").str.slice(0, 1))
    first = spans.with_columns(pl.col("action", "start", "code", "score", "replacement").list.first())
    width = pl.col("end") - pl.col("start")
    return first.with_columns(replacement=pl.col("replacement").repeat_by(width).list.join("")).select(
        PROPOSALS.names()
    )


def _is_digit(character: str) -> bool:
    return character.isdecimal()


def _is_latin(character: str) -> bool:
    return character.isalpha() and character < "\u0250"


class _Folding(dict[int, str]):
    """A translation table, filled as characters turn up, that maps each to one that stands for all its spellings."""

    def __init__(self, options: MatchSensitiveWords) -> None:
        super().__init__()
        self._options = options

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = self._folded(character)
        self[code] = folded
        return folded

    def _folded(self, character: str) -> str:
        options = self._options
        kind = unicodedata.decomposition(character).partition(" ")[0]
        plain = "".join(c for c in unicodedata.normalize("NFKC", character) if c.isalnum())
        if len(plain) == 1:
            styled = (plain.isdigit() and options.ignore_digit_style) or (
                plain.isalpha() and options.ignore_letter_style
            )
            if (kind in ("<wide>", "<narrow>") and options.ignore_width) or (
                kind not in ("", "<wide>", "<narrow>") and styled
            ):
                character = plain
        if options.ignore_digit_style:
            character = HAN_DIGITS.get(character, character)
        lower = character.lower()
        return lower if options.ignore_case and len(lower) == 1 else character
