"""Personal data is found where people wrote it, and nothing that only looks like it."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.personal import cases, found
from curation.errors import RecipeError
from curation.operators.redact_personal_data import RedactPersonalData, redact_personal_data
from curation.personal import find_personal
from curation.personal.folded import folded
from curation.personal.masks import mask
from curation.personal.signs import may_hold
from curation.preview import preview
from curation.recipe import parse_recipe

CASES = list(cases())
TEXTS = st.lists(st.sampled_from([text for text, _ in CASES] + ["，", " ", "。", "1", "电话", "-"]), max_size=3).map(
    "".join
)


def test_of_what_is_found_98_percent_is_right_and_98_percent_is_found() -> None:
    assert len(CASES) >= 150
    ours, wanted = [found(text) for text, _ in CASES], [spans for _, spans in CASES]
    right = sum(len(mine & theirs) for mine, theirs in zip(ours, wanted, strict=True))
    assert right >= 0.98 * sum(map(len, ours))
    assert right >= 0.98 * sum(map(len, wanted))


@given(TEXTS)
def test_what_is_found_has_a_sign_and_its_place_is_in_the_text(text: str) -> None:
    findings = find_personal(text)
    assert not findings or may_hold(pl.Series([text])).item()
    assert len(folded(text)) == len(text)
    ends = [0, *(one.end for one in findings)]
    assert all(end <= one.start < one.end for end, one in zip(ends, findings, strict=False))
    assert ends[-1] <= len(text)


@pytest.mark.parametrize(
    ("text", "kind", "masked"),
    [
        ("138 0013 8000", "phone", "138 **** 8000"),
        ("44030620011130123X", "identity_card", "440***********123X"),
        ("li.lei@qq.com", "email", "l*****@qq.com"),
        ("10.0.0.1", "ip", "10.*.*.*"),
        ("川A12345", "vehicle_plate", "川A****5"),
        ("人民路5号", "address", "*****"),
    ],
)
def test_a_mask_keeps_the_shape(text: str, kind: str, masked: str) -> None:
    assert mask(text, kind) == masked
    assert not find_personal(masked)


def test_what_is_left_after_removal_holds_nothing_even_where_it_meets() -> None:
    turns = pl.DataFrame({"row": [0], "text": ["电话1380013 a@b.com 8000"]}, schema_overrides={"row": pl.UInt32})
    config = RedactPersonalData(style="remove")
    edits = redact_personal_data(turns, config, None)  # type: ignore[arg-type]
    assert edits["code"].to_list() == ["phone", "email", "phone"]


def test_tagging_after_redaction_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"operators": [{"kind": "redact_personal_data"}, {"kind": "tag_users"}]})
    assert (caught.value.operator, caught.value.param) == ("tag_users", "operators[1].kind")


def test_the_default_recipe_tags_first_and_redacts_then() -> None:
    said = [{"role": "user", "content": "我在成都，电话13800138000"}, {"role": "assistant", "content": "好的"}]
    made = preview([{"messages": said}], parse_recipe(None), as_of=date(2026, 11, 1))[0]["curated"]
    assert made["user"]["city"] == "成都市"
    assert made["messages"][0]["content"] == "我在成都，电话[PHONE_1]"
