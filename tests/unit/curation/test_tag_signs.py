"""The native signs never hide a turn that states something."""

from datetime import date
from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.tagging.statements import Said, signs, stated_by

GOLD = sorted((Path(__file__).parents[2] / "gold" / "tag_users").glob("*.jsonl"))
COLUMNS = {"age": "age", "age_band": "age", "gender": "gender", "crowd": "crowd"}
PARTS = st.sampled_from(
    ["我", "本人", "俺", "自己", "今年", "现在", "已经", "刚", "是", "有", "年龄是", "34", "三十", "八", "岁", "周岁", "的儿子", "1987年", "3月", "出生的",
     "85后", "一个", "名", "女生", "爸爸", "宝妈", "朋友", "女士", "住在", "在", "家在", "来自", "成都", "四川省", "青岛市", "人", "的", "这边的", "出差",
     "大", "学生", "在读", "研究生", "孩子", "退休", "上班族", "自己开店", "工人", "农民", "找工作", "家庭主妇", "怀孕", "残疾人", "退伍军人", "新用户", "会员",
     "I'm", "i am", " a ", "34", " years old", ",", ".", " and", "student", "retired", "my son", "i was born in ", "1987", "woman", "vip member",
     "first-time customer", "“", "”", "「", "」", "，", "。", " ", "\n", "\x1c", "İ", "出头", "快", "奔四", "了", "叫我", "王", "先生", "地址：", "老家"]
)  # fmt: skip


def _unsigned(text: str) -> set[str]:
    """Fields that the text states without having their sign."""
    stated = stated_by([Said(0, "user", text, "")], date(2026, 11, 1), {})
    fields = {COLUMNS.get(tag.field, "place") for tag in stated}
    return {field for field in fields if not pl.Series([text]).str.contains(signs()[field]).item()}


@given(st.lists(PARTS, max_size=9).map("".join))
@example("“他说”今年34岁")
@example("我是青岛人")
@example("。\x1c今年34岁")
def test_what_states_something_has_a_sign(text: str) -> None:
    assert not _unsigned(text)


@pytest.mark.parametrize("path", GOLD, ids=lambda path: path.stem)
def test_what_customers_state_has_a_sign(path: Path) -> None:
    records = map(orjson.loads, path.read_bytes().splitlines())
    said = [message["content"] for record in records for message in record["messages"] if message["role"] == "user"]
    assert not {text: missing for text in said if (missing := _unsigned(text))}
