"""The matcher's options one by one and together, its offsets and speed, and the published cases of other matchers."""

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.matching import answer
from curation import compiled, text_blocks, word_trie
from curation.folding import Folding
from curation.matching import Matcher, MatchOptions, mask_matches
from curation.operator import Lexicon


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
        (["av"], "h a v e. av", {"skip": " ."}, ["a v", "av"]),
        (["av"], "h.av av.e hav", {"skip": ". "}, []),
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


WORDS = ["f", "fuck", "all", "aab", "发票", "国人", "110", "a b", "ﬁt", "ss", "av", "五星紅旗", "\x00f", "f\n"]
PIECES = [
    *"ffuck alab v发票中国人１①壹0.五星紅旗 \t\n\x00ﬁßⒻ-。😀\u0301و", "", "fuck", "代开發票", "all", "aab", "a b", "www.a.com", "f.u", "1.2.3.4", "av"
]  # fmt: skip
SPELT = st.fixed_dictionaries(
    {},
    optional={
        "ignore_repeat": st.booleans(), "skip": st.sampled_from([".", "\n. ", ".ﬁ"]), "word_boundary": st.booleans(), "overlapping": st.booleans(),
        "number_boundary": st.booleans(), "longest": st.booleans(), "ignore_digit_style": st.booleans(), "ignore_letter_style": st.booleans(),
    },
)  # fmt: skip


@given(
    pieces=st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=6),
    words=st.lists(st.sampled_from(WORDS), max_size=6),
    allow=st.lists(st.sampled_from([*WORDS, "fuck all", "中国人"]), max_size=2),
    options=SPELT,
    block=st.sampled_from([8, 1 << 18]),
    sizes=st.sampled_from([(16, 1 << 16), (2, 1 << 16), (2, 1), (3, 5)]),
    worthwhile_bytes=st.sampled_from([0, 1 << 40]),
)
def test_many_texts_are_searched_as_one_by_one_and_word_by_word(
    pieces: list[str],
    words: list[str],
    allow: list[str],
    options: dict[str, Any],
    block: int,
    sizes: tuple[int, int],
    worthwhile_bytes: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "WORTHWHILE_BYTES", worthwhile_bytes)
        patch.setattr(text_blocks, "BLOCK_CHARS", block)
        patch.setattr(word_trie, "DEPTH", sizes[0])
        patch.setattr(word_trie, "STRETCH", sizes[1])
        matcher = Matcher([Lexicon(tuple(words), tuple(allow))], MatchOptions(**options))
        found = matcher.find_all(pl.Series(pieces, dtype=pl.String))
    expected = [
        (index, *hit) for index, text in enumerate(pieces) for hit in _searched_plainly(text, words, allow, options)
    ]
    assert [row[:4] for row in found.iter_rows()] == expected


def _searched_plainly(
    text: str, words: list[str], allow: list[str], given: dict[str, Any]
) -> list[tuple[int, int, str]]:
    """(start, end, word) by trying every word at every place."""
    options = MatchOptions(**given)
    folding = Folding(options)
    skip = {*options.skip, *"".join(map(folding.fold, options.skip))}
    symbols = [(symbol, place) for place, character in enumerate(text) for symbol in folding.fold(character)]

    def read(symbols: list[tuple[str, int]]) -> list[tuple[str, int, list[int]]]:
        """Symbol, how often it stands there, and where in `symbols`."""
        groups: list[tuple[str, int, list[int]]] = []
        for index, (symbol, _) in enumerate(symbols):
            if symbol in skip:
                continue
            if options.ignore_repeat and groups and groups[-1][0] == symbol:
                groups[-1] = (symbol, groups[-1][1] + 1, [*groups[-1][2], index])
            else:
                groups.append((symbol, 1, [index]))
        return groups

    def beside(index: int, step: int) -> str:
        while 0 <= index < len(symbols) and symbols[index][0] in skip and not symbols[index][0].isspace():
            index += step
        return symbols[index][0] if 0 <= index < len(symbols) else " "

    def joined(inside: str, outside: str) -> bool:
        latin = (
            inside.isalpha()
            and inside < "\u0250"
            and ((outside.isalpha() and outside < "\u0250") or outside == "\u0301")
        )
        number = options.number_boundary and inside.isdecimal() and outside.isdecimal()
        return (options.word_boundary and latin) or number

    def key(word: str) -> list[tuple[str, int]]:
        return [group[:2] for group in read([(symbol, 0) for symbol in "".join(map(folding.fold, word.strip()))])]

    there = read(symbols)

    def places(wanted: list[tuple[str, int]]) -> list[tuple[int, int, bool]]:
        found = []
        for begin in range(len(there) - len(wanted) + 1 if wanted else 0):
            part = there[begin : begin + len(wanted)]
            if all(have[0] == want[0] and have[1] >= want[1] for have, want in zip(part, wanted, strict=True)):
                first, last = part[0][2][0], part[-1][2][-1]
                alone = not (joined(part[0][0], beside(first - 1, -1)) or joined(part[-1][0], beside(last + 1, 1)))
                found.append((symbols[first][1], symbols[last][1] + 1, alone))
        return found

    free = [(start, end) for phrase in allow for start, end, _ in places(key(phrase))]
    listed: dict[str, str] = {}
    for word in words:
        listed.setdefault(str(key(word)), word)
    hits = [
        (start, end, word.strip())
        for word in listed.values()
        for start, end, alone in places(key(word))
        if alone and not any(a <= start and end <= b for a, b in free)
    ]
    by_end = -1 if options.longest and not options.overlapping else 1
    hits.sort(key=lambda hit: (hit[0], by_end * hit[1], list(map(key, words)).index(key(hit[2]))))
    if options.overlapping:
        return hits
    kept: list[tuple[int, int, str]] = []
    for hit in hits:
        if not kept or hit[0] >= kept[-1][1]:
            kept.append(hit)
    return kept


@pytest.mark.parametrize(
    ("spellings", "options"),
    [
        ("3 ３ ③ ❸ ⓷ ³ ₃ ٣ 三 叁 𝟑 ㈢ ⒊", {}),
        ("3 ３ ③ 叁", {"ignore_width": False, "ignore_letter_style": False}),
        ("10 １０ ⑩ ❿ 一〇 ⑽ 壹零", {}),
        ("fuck ＦＵＣＫ Ⓕⓤc⒦ 𝐟𝓾𝕔𝖐 🅵🆄🅲🅺 🅕🅤🅒🅚", {}),
        ("office oﬃce OFFICE", {}),
        ("strasse STRASSE straße", {}),
        ("istanbul İSTANBUL", {}),
        ("σας ΣΑΣ", {}),
        ("c++ ｃ＋＋", {}),
        ("发票 發票", {}),
        ("貳 贰 二", {}),
    ],
)
def test_spellings_are_found_by_each_other(spellings: str, options: dict[str, Any]) -> None:
    for word in spellings.split():
        assert _found([word], spellings, **options) == spellings.split()


@pytest.mark.parametrize(
    ("word", "text", "options"),
    [
        ("c", "℃ ㏄ ½", {}),
        ("12", "½", {}),
        ("fuck", "ＦＵＣＫ", {"ignore_width": False}),
        ("fuck", "Ⓕⓤc⒦", {"ignore_letter_style": False}),
        ("fuck", "FUCK", {"ignore_case": False}),
        ("3", "三③３", {"ignore_digit_style": False, "ignore_width": False}),
        ("av", "avé haveń ave\u0301 ąv avế ﬀav", {}),
        ("110", "1100 ②110 一一〇一", {"number_boundary": True}),
        ("发票", "发\n票", {}),
    ],
)
def test_what_is_another_word_is_not_found(word: str, text: str, options: dict[str, Any]) -> None:
    assert _found([word], text, **options) == []


def test_a_hit_in_a_ligature_covers_it_and_an_allowed_word_is_no_hit() -> None:
    assert _found(["fit", "ice"], "oﬃce ﬁt", word_boundary=False) == ["ﬃce", "ﬁt"]
    assert _found(["混蛋", "蛋"], "混蛋，坏蛋", allow=("混 蛋", "混蛋")) == ["蛋"]
    assert _found(["混蛋"], "混.蛋", allow=("混蛋",), skip=".") == []
    assert _found(["混蛋"], "混混蛋", allow=("混蛋",), ignore_repeat=True) == []


def test_addresses_are_found_in_full_width() -> None:
    text = "ｗｗｗ．ａ．ｃｏｍ，１９２．１６８．１．１：80；ａ＿ｂ＠ｃ．ｃｎ，OK"
    kinds = ("url", "ipv4", "email")
    assert _found([], text, detect=kinds) == ["ｗｗｗ．ａ．ｃｏｍ", "１９２．１６８．１．１", "ａ＿ｂ＠ｃ．ｃｎ"]
    assert _found([], text, detect=kinds, ignore_width=False) == []
    assert _found([], "壹叁捌零零壹叁捌零零零 ①③⑧⑩ 1380013", detect=("number",)) == ["壹叁捌零零壹叁捌零零零"]
    assert _found([], "①③⑧⑩ 138 0013", detect=("number",), number_length=5) == ["①③⑧⑩"]


def test_a_large_list_costs_hardly_more_than_a_small_one_but_for_its_hits(shared_data: Path) -> None:
    words = (shared_data / "lexicons" / "houbb_dict_v20240407.txt").read_text("utf-8").split("\n")
    rows = map(orjson.loads, (shared_data / "cls.cold.train.jsonl").read_bytes().splitlines())
    texts = pl.Series([row["text"] for row in rows])
    small = Matcher([Lexicon(tuple(words[:1_000]))], MatchOptions())
    began = time.process_time()
    large = Matcher([Lexicon(tuple(words))], MatchOptions())
    assert time.process_time() - began < 1, "a second for 65,000 words"

    def cpu_s(matcher: Matcher, texts: pl.Series) -> float:
        tries = []
        for _ in range(3):  # of a busy machine, the best one
            began = time.process_time()
            matcher.find_all(texts)
            tries.append(time.process_time() - began)
        return min(tries)

    hits = large.find_all(texts)["text"]
    without = pl.concat([texts.gather(sorted({*range(len(texts))} - {*hits.to_list()}))] * 5)
    assert without.str.len_chars().sum() > 50_000 and len(hits) > 10_000
    assert cpu_s(large, without) < 2 * cpu_s(small, without) + 0.02, "1.2 on a quiet machine"
    assert cpu_s(large, texts) - cpu_s(small, texts) < 3e-6 * len(hits) + 0.02, (
        "half a microsecond a hit on a quiet one"
    )


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Hundreds of thousands of hits would have the garbage collector walk over all that other tests left behind."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("options", [{}, {"skip": ".", "ignore_repeat": True}, {"overlapping": True}])
def test_ten_times_the_text_takes_ten_times_as_long(options: dict[str, Any], no_collection: None) -> None:
    matcher = Matcher([Lexicon(("发票", "fuck", "aa", "国人"))], MatchOptions(**options))
    for unit in ("发票国人", "a", "f.u.c.k ", "\x00😀و", "①Ⓕﬁ發"):
        text = unit * (1_000_000 // len(unit))
        took = []
        for part in (text[:100_000], text):
            tries = []
            for _ in range(2):  # of a busy machine, the better one
                began = time.process_time()
                matcher.find(part)
                tries.append(time.process_time() - began)
            took.append(min(tries))
        assert took[1] <= 15 * took[0] + 0.5, unit


def test_published_cases_agree(shared_data: Path) -> None:
    cases = [orjson.loads(line) for line in (shared_data / "matcher_gold.dev.jsonl").read_bytes().splitlines()]
    answers = {case["id"]: answer(case) for case in cases}
    assert answers == {case["id"]: case["expected"] for case in cases}
