"""Find sensitive words, in all their spellings, and act on them."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import polars as pl

from curation.matching import Matcher, MatchOptions
from curation.operator import PROPOSALS, Lexicon, Resources, operator

BUILTIN = Path(__file__).parent.parent / "lexicons" / "sensitive_words.txt"


class MatchSensitiveWords(MatchOptions):
    """Finds words of lexicons and masks them, or drops, flags or unlearns what holds them."""

    words: tuple[str, ...] = ()
    """Words of your own; with neither words nor lexicons nor `detect`, the built-in lexicon."""
    lexicons: tuple[str, ...] = ()
    """Ids of lexicons."""
    allow: tuple[str, ...] = ()
    """Phrases in which a listed word is allowed."""
    action: Literal["mask", "drop_turn", "drop_conversation", "flag", "no_learn"] = "mask"
    """What happens to a hit; no_learn keeps the turn as context that is not learned."""
    learn_masked: bool = False
    """Learn replies that were masked; otherwise they stay as context."""


@operator(
    kind="match_sensitive_words",
    version=3,
    scope="turn",
    config=MatchSensitiveWords,
    reads=("text",),
    codes={
        "sensitive_word": "a word of the recipe, of the built-in lexicon or of a lexicon without a category",
        "<category>": "a word of a lexicon with this category",
        "number": "found by `detect`: a number of at least `number_length` digits",
        "url": "found by `detect`: a web address",
        "email": "found by `detect`: an e-mail address",
        "ipv4": "found by `detect`: an IP address",
    },
)
def match_sensitive_words(turns: pl.DataFrame, config: MatchSensitiveWords, resources: Resources) -> pl.DataFrame:
    """Proposes a mask per hit, or one verdict per turn."""
    own = (Lexicon(config.words, config.allow),) if config.words or config.allow else ()
    found = _matcher((*own, *resources.lexicons), config).find_all(turns["text"])
    width = pl.col("end") - pl.col("start")
    shown = {
        True: pl.lit(config.mask).repeat_by(width).list.join(""),
        False: pl.lit(turns["text"]).gather(pl.col("text")).str.slice(pl.col("start"), width),
    }
    frame = found.select(
        pl.lit(turns["row"]).gather(pl.col("text")).alias("row"),
        pl.lit(config.action).alias("action"),
        "start",
        "end",
        shown[config.action == "mask"].alias("replacement"),
        pl.col("category").fill_null("sensitive_word").alias("code"),
        pl.lit(None).alias("score"),
    ).cast(dict(PROPOSALS))  # type: ignore[arg-type]
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
