"""Signs never hide a text from the rules, so smoothing many texts is smoothing each of them."""

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.operator import Resources
from curation.operators.smooth_disfluency import SmoothDisfluency, _with_signs, smooth, smooth_disfluency

PARTS = st.sampled_from(
    ["嗯", "呃", "额", "啊", "哦", "唉", "那个", "这个", "就是", "就是说", "然后呢", "怎么说呢", "我", "你", "我想", "查话费", "好好", "天天",
     "研究", "可以", "三三", "百", "不对", "说错了", "口误", "是", "去北京", "去上海", "的", "目的", "了", "吗", "呢", "，", "，", "、", "。", "…", "...",
     "？", "~", " ", " ", "\n", "\x1c", "\u3000", "um", "Uh", "uhm", "er", "Hmm", "uh-huh", "mhm", "you know", "I mean", "like", "so yeah",
     "I", "the", "The", "want", "to", "want to", "pay", "no", "wait", "sorry", "actually", "scratch that", "5", "'", "-", "_", ",", ".", "K", "\u212a", "ſ", "店小二",
     "特", "特别", "早", "早上", "上海", "海关", "嘛", "吧", "呀", "诶", "哎", "什么", "什么的", "怎么说呢", "一个", "那种", "也", "都", "还", "跟", "我们", "因为",
     "后来", "成了", "成为", "真是", "真的", "只是", "只能", "们", "哈", "嘞", "个", "一百", "，我", "抗美", "援朝", "很", "挺",
     "or", "rather", "make that", "I meant", "nope", "instead", "Paris", "when", "what", "a"]
)  # fmt: skip
TEXT = st.one_of(st.lists(PARTS, max_size=9).map("".join), st.lists(PARTS, max_size=9).map(" ".join))
CONFIG = st.builds(
    SmoothDisfluency,
    fillers=st.booleans(),
    repetitions=st.booleans(),
    repairs=st.booleans(),
    grammar=st.booleans(),
    extra_fillers=st.sampled_from([(), ("店小二", "研究")]),
    keep=st.sampled_from([(), ("我我想",)]),
    user_words=st.sampled_from([(), ("特特", "海海")]),
)


@pytest.fixture(scope="module", params=[0, 1 << 40], ids=["machine code", "few texts"], autouse=True)
def _worthwhile(request: pytest.FixtureRequest) -> Iterator[None]:
    """Many texts and few are read in two ways."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("curation.compiled.WORTHWHILE_BYTES", request.param)
        yield


@given(texts=st.lists(TEXT, max_size=6), config=CONFIG)
@example(
    texts=[
        "我，我想查话费",
        "不少就是不少人说",
        "一起走，走到路口",
        "没没，没有",
        "额额",
        "嗯\n",
        "了了\n",
        "A I  A I  b",
        "ſo K ſo k so",
    ],
    config=SmoothDisfluency(),
)
def test_many_texts_are_smoothed_as_each_alone(texts: list[str], config: SmoothDisfluency) -> None:
    turns = pl.DataFrame(
        {"row": pl.Series(range(len(texts)), dtype=pl.UInt32), "text": pl.Series(texts, dtype=pl.String)}
    )
    turns = turns.with_columns(role=pl.lit("user"))
    proposed = smooth_disfluency(turns, config, Resources(date(2026, 11, 1)))
    expected = [(row, *edit) for row, text in enumerate(texts) for edit in smooth(text, config)]
    assert proposed.select("row", "start", "end", "replacement", "code").rows() == expected


@pytest.mark.parametrize(
    "text", ["想问一下北京这边的宽带套餐能不能改到今天上午。", "I would like to change my booking, please."]
)
def test_texts_without_signs_are_not_looked_at_one_by_one(text: str) -> None:
    turns = pl.DataFrame({"row": [0], "text": [text]})
    assert _with_signs(turns, SmoothDisfluency()).is_empty()


@pytest.mark.parametrize("text", ["", "\x00", "\ud800我我想", "👩‍👩‍👧👩‍👩‍👧", "שלום שלום", "\u202e我我想\u202c"])
def test_strange_characters_are_no_errors(text: str) -> None:
    for start, end, *_ in smooth(text, SmoothDisfluency()):
        assert 0 <= start < end <= len(text)
