"""The matcher: published cases passed, a large list's building, and the built-in lexicon's hits in clean dialogues."""

import time
from collections.abc import Iterator
from typing import Any

import polars as pl

from benchmarks.quality.figures import CLEAN, DATA, Figure, records, turns
from curation.matching import Matcher, MatchOptions, mask_matches
from curation.operator import Lexicon
from curation.operators.match_sensitive_words import MatchSensitiveWords, builtin_lexicon

LARGE = "houbb_dict_v20240407.txt"
SPECIAL = "<>/\\[]【】{}()（）|*-_=+~!@#$%^&.,:;'\"，。！？、 "
THEIRS = {
    "overlapping": "overlapping",
    "longest": "longest",
    "mask": "mask",
    "ignore_case": "ignore_case",
    "ignore_width": "ignore_width",
    "ignore_num_style": "ignore_digit_style",
    "ignore_chinese_style": "ignore_traditional",
    "ignore_repeat": "ignore_repeat",
    "skip_chars": "skip",
    "number_word_boundary": "number_boundary",
    "num_len": "number_length",
}
"""The names of options in the published cases, and ours."""
CHECKS = {"num_check": "number", "email_check": "email", "url_check": "url", "ipv4_check": "ipv4"}


def figures() -> Iterator[Figure]:
    cases = list(records("matcher_gold.dev"))
    passed = sum(answer(case) == case["expected"] for case in cases)
    yield Figure("published cases passed", passed / len(cases), 1.0)

    yield from large_list()
    matcher = Matcher([builtin_lexicon()], MatchSensitiveWords())
    for name in CLEAN:
        said = pl.Series(list(turns(name)))
        hit = matcher.find_all(said)["text"].n_unique()
        yield Figure(f"{name}: turns hit by the built-in lexicon", hit / len(said), 0.002, at_most=True)


def large_list() -> Iterator[Figure]:
    """The time of a list of ordinary words, against that of 1,000 of them, on texts in which nothing is listed."""
    words = (DATA / "lexicons" / LARGE).read_text("utf-8").split("\n")
    began = time.process_time()
    large = Matcher([Lexicon(tuple(words))], MatchOptions())
    yield Figure(f"a list of {len(words):,} words is built: CPU s", time.process_time() - began, 1.0, at_most=True)
    small = Matcher([Lexicon(tuple(words[:1_000]))], MatchOptions())
    said = pl.Series([str(record["text"]) for record in records("cls.cold.train")] * 10)
    hits = large.find_all(said)["text"]
    without = said.filter(~pl.int_range(len(said), eager=True).is_in(hits.implode()))
    few, many, few_hits, many_hits = _cpu_s((small, without), (large, without), (small, said), (large, said))
    yield Figure("the same, texts without hits: time over that of 1,000 words", many / few, 1.2, at_most=True)
    yield Figure("the same: µs more for each hit", (many_hits - few_hits) / len(hits) * 1e6, 1.0, at_most=True)


def _cpu_s(*cases: tuple[Matcher, pl.Series]) -> list[float]:
    """CPU seconds of searches, the best of five, in turns."""
    taken: list[list[float]] = [[] for _ in cases]
    for _ in range(5):
        for times, (matcher, texts) in zip(taken, cases, strict=True):
            began = time.process_time()
            matcher.find_all(texts)
            times.append(time.process_time() - began)
    return [min(times) for times in taken]


def answer(case: dict[str, Any]) -> object:
    """What we answer to a published case, in the form that it expects."""
    text: str = case["text"]
    matches = _matcher(case).find(text)
    found = [text[match.start : match.end] for match in matches]
    match case["mode"]:
        case "contains":
            return bool(found)
        case "find_first":
            return found[0] if found else None
        case "count":
            return len(found)
        case "replace":
            return mask_matches(text, matches, (case.get("options") or {}).get("mask", "*"))
        case "spans":
            return [[one.start, one.end, one.word] for one in matches]
    return found


def _matcher(case: dict[str, Any]) -> Matcher:
    theirs = case.get("options") or {}
    options: dict[str, Any] = {ours: theirs[name] for name, ours in THEIRS.items() if name in theirs}
    options["detect"] = tuple(kind for name, kind in CHECKS.items() if theirs.get(name))
    options["word_boundary"] = theirs.get("english_word_boundary", False)
    if theirs.get("skip_special_chars"):
        options["skip"] = SPECIAL
    return Matcher([Lexicon(tuple(case["words"]), tuple(case.get("allow", ())))], MatchOptions(**options))
