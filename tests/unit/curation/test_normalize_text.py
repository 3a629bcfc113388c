"""What becomes of odd characters, white space, marks and HTML; and that clean text is left alone."""

import time
from datetime import date
from pathlib import Path

import orjson
import polars as pl
import pytest

from curation.mixer import Step, apply_edits, run_step, with_context
from curation.operator import REGISTRY, Dialogues, Resources
from curation.operators.normalize_text import NormalizeText, normalize, normalize_text
from curation.operators.structure_dialogue import StructureDialogue

RESOURCES = Resources(date(2026, 11, 1))


def _normal(text: str, *, to_simplified: bool = False) -> tuple[str, list[str]]:
    edits = normalize(text, to_simplified=to_simplified)
    return apply_edits(text, [(start, end, new) for start, end, new, _ in edits]), [edit[3] for edit in edits]


@pytest.mark.parametrize(
    ("text", "normal", "codes"),
    [
        ("ＡＢＣ１２３％，好！", "ABC123%，好！", ["width"]),
        ("ｶﾞｷﾞ ｱ", "ガギ ア", ["width", "width"]),
        ("１２：３０到9：00，1．5元", "12:30到9:00，1.5元", ["width", "width", "width"]),
        ("\ufeffa\u200bb\x07\u202ec", "abc", ["control"] * 3),
        ("x\u200dy a\ufe0f \U000e0041z", "xy a z", ["control"] * 3),
        (" 你\u3000\u3000好\xa0世界 \r\n\r\n\r\n\u2028再见\n  - 一\t二\n　　段\n", "你 好 世界\n\n再见\n  - 一 二\n段", ["whitespace"] * 9),
        ("好！！！！真的？？！！等等。。。。嗯。。对———啊.....", "好！真的？！等等……嗯。对——啊...", ["punctuation"] * 6),
        ("您好，，请问、、", "您好，请问、", ["punctuation"] * 2),
        ("&nbsp;R&amp;B&amp;amp;lt;br&gt;再见<br/>喂", "R&B\n再见\n喂", ["html"] * 4),
        ('<div class="x"><b>粗</b>体</div><p>段</p>', "粗体\n\n段", ["html"] * 4),
        ("<script>alert(1)</script>你好<!-- 注 -->", "你好", ["html"] * 2),
        ("＜ｂｒ＞喂！！", "喂！", ["width", "punctuation"]),
    ],
)  # fmt: skip
def test_a_text_is_brought_to_one_form(text: str, normal: str, codes: list[str]) -> None:
    assert _normal(text) == (normal, codes)
    assert normalize(normal) == []


@pytest.mark.parametrize(
    "text",
    [
        "您好，（请问）“一号”：多少钱？还有～￥5！", "嗯……等等——好...", "a < b 且 c > d", "请填 <order id>、<address> 和 <a>", "List<b> a<b>c",
        "👨\u200d👩\u200d👧 ❤️ 1️⃣ 👍🏽 🏴\U000e0067\U000e0062\U000e007f", "می\u200cخواهم", "क्\u200dष", "א\u200fב", "葛\U000e0100", "&copy=1 Q&A AT&T;",
        "`a  ==  b！！<br>`", "```\nif x:\n    y  =  １\n```", "http://a.b/c??d=1", "fe80::1 ../../x a,,b for(;;)", "~~删除~~ ******** ----", "第一行\n  - 第二行\n\n第三行",
    ],
)  # fmt: skip
def test_what_is_right_stays(text: str) -> None:
    assert normalize(text) == []


def test_traditional_becomes_simplified_only_when_asked() -> None:
    text = "計程車在頭髮店，乾隆皇帝ＡＢ"
    assert _normal(text) == ("計程車在頭髮店，乾隆皇帝AB", ["width"])
    assert _normal(text, to_simplified=True) == (
        "计程车在头发店，乾隆皇帝AB",
        ["simplified", "simplified", "simplified", "width"],
    )
    assert normalize("東京へ行きます", to_simplified=True) == []


@pytest.mark.parametrize(
    "text",
    ["x\n" + " " * 300_000 + "x", "x" + "\n" * 300_000 + "x", "<b" * 80_000 + ">" * 80_000, '<a x="' * 60_000, "&amp;" * 60_000,
     "<!--" * 80_000, "<script>" * 40_000 + "</style>", "." * 300_000 + "/", "<a" + " x=y" * 80_000, "`a" * 150_000],
    ids=["spaces", "breaks", "nested", "attributes", "entities", "comments", "scripts", "dots", "one tag", "quotes"],
)  # fmt: skip
def test_hostile_text_takes_linear_time(text: str) -> None:
    began = time.process_time()
    normalize(text, to_simplified=True)
    assert time.process_time() - began < 5


def _dialogues(*turns: tuple[str, str, int | None]) -> Dialogues:
    columns = {"conversation": pl.UInt32, "turn": pl.Int64, "role": pl.String, "text": pl.String, "weight": pl.Int64}
    rows = [(0, index, role, text, weight) for index, (role, text, weight) in enumerate(turns)]
    names = pl.DataFrame([(0, "c", 1, None, None)], {"conversation": pl.UInt32, "id": pl.String, "line": pl.Int64, "user": pl.String, "meta": pl.String}, orient="row")  # fmt: skip
    return Dialogues(names, with_context(pl.DataFrame(rows, columns, orient="row")))


def test_a_turn_of_which_nothing_is_left_goes_with_its_reply() -> None:
    step = Step(REGISTRY["normalize_text"], NormalizeText(), RESOURCES)
    turns = [
        ("user", "你好", None),
        ("assistant", "您好", None),
        ("user", "<img src=a.png>", None),
        ("assistant", "看到了", None),
    ]
    outcome = run_step(_dialogues(*turns), step)
    assert outcome.dialogues.turns["text"].to_list() == ["你好", "您好"]
    assert outcome.trace["code"].to_list() == ["nothing_left", "reply_of_dropped"]


def test_the_native_filter_misses_nothing(shared_data: Path) -> None:
    texts = [
        message["content"]
        for name in ("dialog.crosswoz.val", "dialog.kdconv.dev", "dialog.multidogo_customer_only.dev")
        for line in (shared_data / f"{name}.jsonl").read_bytes().splitlines()
        for message in orjson.loads(line)["messages"]
    ]
    proposed = normalize_text(pl.DataFrame({"text": texts}).with_row_index("row"), NormalizeText(), RESOURCES)
    edited = set(proposed["row"].to_list())
    assert edited == {row for row, text in enumerate(texts) if normalize(text)}
    assert 0 < len(edited) < len(texts) / 200, "clean text is almost untouched"


def _structured(*turns: tuple[str, str, int | None]) -> list[tuple[str, str, int | None]]:
    step = Step(REGISTRY["structure_dialogue"], StructureDialogue(), RESOURCES)
    return list(run_step(_dialogues(*turns), step).dialogues.turns.select("role", "text", "weight").iter_rows())


def test_a_merged_reply_that_is_partly_not_learned_is_not_learned() -> None:
    asked = ("user", "在吗", None)
    assert _structured(asked, ("assistant", "在", None), ("assistant", "请讲", 0))[1] == ("assistant", "在\n请讲", 0)
    assert _structured(asked, ("assistant", "在", 0), ("assistant", "请讲", 1))[1] == ("assistant", "在\n请讲", 0)
    assert _structured(asked, ("assistant", "在", None), ("assistant", "请讲", 1))[1][2] is None


def test_system_messages_are_kept_wherever_they_stand() -> None:
    turns = [("system", "一", None), ("system", "二", None), ("user", "在吗", None), ("assistant", "在", None), ("system", "转人工", None), ("user", "好", None)]  # fmt: skip
    assert [text for _, text, _ in _structured(*turns)] == ["一\n二", "在吗", "在", "转人工", "好"]


def test_a_turn_of_invisible_characters_is_empty() -> None:
    assert _structured(("user", "在吗", None), ("user", "\u200b\ufeff ", None), ("assistant", "在", None))[0] == (
        "user",
        "在吗",
        None,
    )
