"""The native sign of a statement never hides a turn that states something."""

from datetime import date

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from curation.operators.tag_users import _may_state, _stated

PARTS = st.sampled_from(
    ["我", "本人", "俺", "自己", "今年", "现在", "已经", "刚", "是", "有", "年龄是", "34", "三十", "八", "岁", "周岁", "的儿子", "1987年", "3月", "出生的",
     "85后", "一个", "名", "女生", "爸爸", "宝妈", "朋友", "女士", "住在", "在", "家在", "来自", "成都", "四川省", "青岛市", "人", "的", "这边的", "出差",
     "大", "学生", "在读", "研究生", "孩子", "退休", "上班族", "自己开店", "工人", "农民", "找工作", "家庭主妇", "怀孕", "残疾人", "退伍军人", "新用户", "会员",
     "I'm", "i am", " a ", "34", " years old", ",", ".", " and", "student", "retired", "my son", "i was born in ", "1987", "woman", "vip member",
     "first-time customer", "“", "”", "「", "」", "，", "。", " ", "\n", "\x1c", "İ"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=9).map("".join))
@example("“他说”今年34岁")
@example("我是青岛人")
@example("。\x1c今年34岁")
def test_what_states_something_has_a_sign(text: str) -> None:
    stated = list(_stated(0, "user", text, date(2026, 11, 1)))
    assert not stated or pl.Series([text]).str.contains(_may_state()).item()
