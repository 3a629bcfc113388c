"""What a smoother does in texts of the kind that it was taught with, and what it leaves in others."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.mixer import apply_edits
from curation.operators.smooth_disfluency import SmoothDisfluency, smooth_texts
from curation.smoother import FOR, OPENING, Smoother, arrays_of, decide_freely, runs
from curation.smoother_fitting import Learned
from curation.smoother_likeness import MARKS, shares, strange_marks
from curation.smoother_network import Parameters
from curation.smoother_pairs import Pair, aligned
from curation.smoother_reading import WIDE_BITS
from curation.smoother_spelling import NOTHING, Spelling, learn_spelling
from curation.smoothing.doubles import meant
from curation.smoothing.words import Vocabulary


@pytest.mark.parametrize(
    ("taught", "text", "is_strange"),
    [
        (["我我想去"] * 100, "我想去", False),
        (["我我想去"] * 100, "我想去。", True),
        (["我我想去"] * 100, "我想去吗？", True),
        (["我我想去"] * 100, "我想去3号", True),
        (["我我想去"] * 100, "您想去", True),
        (["我我想去。"] * 6 + ["我我想去"] * 94, "我想去。", False),
        (["我我想去。"] * 4 + ["我我想去"] * 96, "我想去。", True),
        (["您3号去《X》吗？", "好的，请说。谢谢推荐"] * 50, "好的，您3号去《X》吗？", False),
    ],
)
def test_a_mark_that_hardly_any_taught_text_bears_is_strange(taught: list[str], text: str, is_strange: bool) -> None:
    assert (strange_marks(shares(taught)).search(text) is not None) == is_strange


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.booleans(), st.booleans()), max_size=9),
)
def test_what_goes_freely_adds_up_to_most(characters: list[tuple[int, bool, bool]]) -> None:
    logits = np.array([logit / 10 for logit, _, _ in characters], dtype=np.float32)
    voted, held = (np.array([one[place] for one in characters], dtype=bool) for place in (1, 2))

    def worth(gone: Sequence[bool]) -> float:
        mask = np.array(gone, dtype=bool)
        if (mask & held & ~voted).any():
            return -np.inf
        return float((logits + FOR * voted)[mask].sum()) - OPENING * sum(1 for _ in runs(mask))

    most = max(worth(gone) for gone in product((False, True), repeat=len(characters)))
    assert worth(decide_freely(logits, voted, held).tolist()) == pytest.approx(most, abs=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "你看看这个", "研究研究再说", "好好好，没问题", "咱们聊聊天", "谢谢谢谢", "想想办法", "一个一个来", "高高兴兴上班",
        "我在中国国家博物馆", "星星很亮", "非常非常好", "二零一一年", "娃娃菜", "大酒店酒店价格", "对对，是的",
    ],
)  # fmt: skip
def test_what_is_doubled_on_purpose(text: str) -> None:
    assert list(meant(text, Vocabulary.of()))


@pytest.mark.parametrize(
    "text",
    ["我们坐坐在床上", "这七七十周年", "看看完电影", "在高高二的时候", "对对公交车司机", "衣服有点暴露露", "还有有人不来", "照顾照顾好孩子"],
)  # fmt: skip
def test_what_no_context_allows_is_not_meant(text: str) -> None:
    assert not list(meant(text, Vocabulary.of()))


def learned(*pairs: tuple[str, str]) -> Spelling:
    return learn_spelling(pairs, [aligned(Pair(*pair)).tolist() for pair in pairs])


def test_only_what_is_always_written_otherwise_is_learned() -> None:
    words = [(f"呃我的帐号{n}坏了", f"我的账号{n}坏了") for n in "甲乙丙丁戊"]
    assert learned(*words) == Spelling({"帐号": "账号"}, {})
    assert learned(*words[:4]) == NOTHING, "too few"
    assert learned(*words, *[(said, said) for said, _ in words]) == NOTHING, "as often as not"
    assert learned(*[("他她来了", "她他来了")] * 9) == NOTHING, "single characters hang on more than themselves"


def test_marks_are_learned_by_the_last_character() -> None:
    asked = [(f"{one}来吗", f"{one}来吗？") for one in "你我他们谁"]
    told = [(f"{one}来了", f"{one}来了。") for one in "你我他们谁"]
    assert learned(*asked, *told) == Spelling({}, {"吗": "？", "了": "。"})
    assert learned(*[(said, said) for said, _ in asked]) == NOTHING


def test_what_is_written_otherwise_stands_in_the_trace_and_only_in_texts_of_its_kind() -> None:
    parameters = Parameters.drawn(0, 4, 8, np.random.default_rng(0))
    parameters.out[:] = 0
    parameters.out[-1] = -0.4  # a network that leaves out nothing but what the rules do
    network = Learned(parameters, np.empty(0, dtype=np.uint32), np.zeros(1 << WIDE_BITS, dtype=np.float32))
    arrays = arrays_of(network, np.zeros(len(MARKS), dtype=np.float32))
    smoother = Smoother(arrays, Spelling({"帐号": "账号"}, {"了": "。"}))
    texts = ["我的帐号坏了", "呃我的帐号坏了", "我的帐号坏了！", "账号好", "《帐号》没了"]
    edits = smooth_texts(texts, SmoothDisfluency(), smoother)
    smoothed = [apply_edits(text, [edit[:3] for edit in mine]) for text, mine in zip(texts, edits, strict=True)]
    assert smoothed == ["我的账号坏了。", "我的账号坏了。", "我的帐号坏了！", "账号好", "《帐号》没了"]
    assert [edit[:4] for edit in edits[0]] == [(2, 4, "账号", "grammar"), (5, 6, "了。", "grammar")]
    (kept,) = smooth_texts(texts[:1], SmoothDisfluency(keep=("帐号",)), smoother)
    assert [edit[:3] for edit in kept] == [(5, 6, "了。")]
    assert smooth_texts(texts[:1], SmoothDisfluency(grammar=False), smoother) == [[]]
