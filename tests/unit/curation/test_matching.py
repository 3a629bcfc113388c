"""The matcher's options one by one, its offsets, and the published cases of other matchers."""

import time
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from curation import text_blocks
from curation.matching import Matcher, MatchOptions, mask_matches
from curation.operator import Lexicon

SPECIAL = "<>/\\[]【】{}()（）|*-_=+~!@#$%^&.,:;'\"，。！？、 "
THEIRS = {
    "overlapping": "overlapping", "longest": "longest", "mask": "mask", "ignore_case": "ignore_case", "ignore_width": "ignore_width",
    "ignore_num_style": "ignore_digit_style", "ignore_chinese_style": "ignore_traditional", "ignore_repeat": "ignore_repeat",
    "skip_chars": "skip", "number_word_boundary": "number_boundary", "num_len": "number_length",
}  # fmt: skip
CHECKS = {"num_check": "number", "email_check": "email", "url_check": "url", "ipv4_check": "ipv4"}


def _found(words: list[str], text: str, *, allow: tuple[str, ...] = (), **options: Any) -> list[str]:
    matches = Matcher([Lexicon(tuple(words), allow)], MatchOptions(**options)).find(text)
    return [text[match.start : match.end] for match in matches]


@pytest.mark.parametrize(
    ("words", "text", "options", "found"),
    [
        (["fuck"], "ffuuuck fuk", {"ignore_repeat": True}, ["ffuuuck"]),
        (["all"], "al alll", {"ignore_repeat": True}, ["alll"]),
        (["fuck"], "ffuuck", {}, []),
        (["五星红旗"], "五星紅旗", {}, ["五星紅旗"]),
        (["五星红旗"], "五星紅旗", {"ignore_traditional": False}, []),
        (["發票"], "代开发票", {}, ["发票"]),
        (["fuck"], "f.u-c.k", {"skip": ".-"}, ["f.u-c.k"]),
        (["av"], "h.a.v.e a.v", {"skip": "."}, ["a.v"]),
        (["fuck"], "f.f.u.c.k!", {"skip": ".", "ignore_repeat": True}, ["f.f.u.c.k"]),
        (["av"], "ｈａｖｅ ａｖ", {}, ["ａｖ"]),
        ([], "电话13800138000，编号1234567", {"detect": ["number"]}, ["13800138000"]),
        ([], "１３８００１３８０００ 一二三四五六七八", {"detect": ["number"]}, ["１３８００１３８０００", "一二三四五六七八"]),
        ([], "见https://a.cn/x?y=1。或www.b.com, c.com.cn; v1.2.3 a.b", {"detect": ["url"]}, ["https://a.cn/x?y=1", "www.b.com", "c.com.cn"]),
        ([], "发到a.b@c.com.cn。不是@x 也不是a@b", {"detect": ["email"]}, ["a.b@c.com.cn"]),
        ([], "192.168.1.1。999.1.1.1 1.2.3.4.5", {"detect": ["ipv4"]}, ["192.168.1.1"]),
        (["支付"], "支付www.a.com", {"detect": ["url"]}, ["支付", "www.a.com"]),
    ],
)  # fmt: skip
def test_an_option_does_what_it_says(words: list[str], text: str, options: dict[str, Any], found: list[str]) -> None:
    assert _found(words, text, **options) == found


def test_a_detected_form_can_be_allowed_and_tells_its_kind() -> None:
    matcher = Matcher([Lexicon(("支付",), ("www.a.com",))], MatchOptions(detect=("url",)))
    assert [match.word for match in matcher.find("支付 www.a.com www.b.com")] == ["支付", "www.b.com"]
    assert matcher.find("www.b.com")[0].category == "url"
    text = "去www.b.com支付"
    assert mask_matches(text, matcher.find(text), "#") == "去###########"


def test_hostile_text_takes_linear_time() -> None:
    options = MatchOptions(detect=("number", "url", "email", "ipv4"), skip=".", ignore_repeat=True)
    matcher = Matcher([Lexicon(("fuck",))], options)
    for text in (
        "a." * 100_000,
        "a" * 200_000,
        "a@" * 100_000,
        "1." * 100_000,
        "www." * 50_000,
        "http://" * 30_000,
        "." * 200_000 + "a",
        "a-" * 100_000 + "@",
    ):
        began = time.process_time()
        matcher.find(text)
        assert time.process_time() - began < 5, text[:10]


@pytest.mark.parametrize(
    "options", [{}, {"skip": "\n. "}, {"ignore_repeat": True}, {"overlapping": True}, {"detect": ["url"]}]
)
def test_texts_searched_together_miss_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_blocks, "BLOCK_CHARS", 20)
    words = ["fuck", "发票", "国人", "a b"]
    parts = ["ffuuck ", "f.u.c.k", "代开發票", "中国", "人", "", "a b", "\n", "x" * 30, "www.a.com"]
    texts = ["".join(pair) for pair in product(parts, parts)]
    matcher = Matcher([Lexicon(tuple(words))], MatchOptions(**options))
    suspects = matcher.suspects(pl.Series(texts, dtype=pl.String))
    assert suspects == sorted(set(suspects))
    assert {index for index, text in enumerate(texts) if matcher.find(text)} <= set(suspects)
    assert matcher.suspects(pl.Series([], dtype=pl.String)) == []


def _ours(case: dict[str, Any]) -> Matcher:
    theirs = case.get("options") or {}
    options: dict[str, Any] = {ours: theirs[name] for name, ours in THEIRS.items() if name in theirs}
    options["detect"] = tuple(kind for name, kind in CHECKS.items() if theirs.get(name))
    options["word_boundary"] = theirs.get("english_word_boundary", False)
    if theirs.get("skip_special_chars"):
        options["skip"] = SPECIAL
    return Matcher([Lexicon(tuple(case["words"]), tuple(case.get("allow", ())))], MatchOptions(**options))


def _answer(case: dict[str, Any]) -> object:
    text: str = case["text"]
    matches = _ours(case).find(text)
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


def test_published_cases_agree(shared_data: Path) -> None:
    cases = [orjson.loads(line) for line in (shared_data / "matcher_gold.dev.jsonl").read_bytes().splitlines()]
    wrong = {case["id"]: (_answer(case), case["expected"]) for case in cases if _answer(case) != case["expected"]}
    assert wrong == {}
