"""What operators do to particular sentences, and what they leave alone."""

from datetime import date
from pathlib import Path

import jsonschema
import orjson
import polars as pl
import pytest

from curation.command import curate
from curation.errors import RecipeError
from curation.mixer import apply_edits
from curation.operator import Lexicon
from curation.operators.match_sensitive_words import Matcher, MatchSensitiveWords
from curation.operators.smooth_disfluency import SmoothDisfluency, smooth
from curation.operators.tag_users import tags_of
from curation.recipe import default_recipe, parse_recipe
from curation.statistics import tag_statistics
from curation.tagging.statements import Said

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("我我我想查话费", "我想查话费"),
        ("我要去北京不对去上海", "我要去上海"),
        ("呃，那个，我想问一下嗯嗯", "我想问一下"),
        ("订三张不对四张票", "订四张票"),
        ("我想，我想问一下", "我想问一下"),
        ("票价是100元的的景点", "票价是100元的景点"),
        ("嗯嗯", "嗯。"),
        ("Um, can you help me", "Can you help me"),
        ("I want to to fly to Boston, no wait, to Denver", "I want to fly to Denver"),
        ("这个套餐特特别划算", "这个套餐特别划算"),
        ("请另另一个客服联系我", "请另一个客服联系我"),
        ("早早上送到就行", "早上送到就行"),
        ("你们总会总会晚一天", "你们总会晚一天"),
        ("这个月一定一定要退", "这个月一定要退"),
        ("我的快递我的快递还没到", "我的快递还没到"),
        ("我就我想改一下地址", "我想改一下地址"),
        ("我打电打电话问过了", "我打电话问过了"),
        ("应，应该是昨天寄出的", "应该是昨天寄出的"),
        ("师傅打打起来电话就不停", "师傅打起来电话就不停"),
        ("快递员啊说明天再来", "快递员说明天再来"),
        ("就是我想问一下话费", "我想问一下话费"),
        ("我觉得怎么说呢不太合适", "我觉得不太合适"),
        ("诶客服你好", "客服你好"),
        ("I need the blue one, sorry, I meant the red one", "I need the red one"),
        ("Where was no what was the price of it?", "What was the price of it?"),
        ("We fly from Paris no sorry Rome", "We fly from Rome"),
        ("他跑的很快，演的也不错。", "他跑得很快，演得也不错。"),
        ("慢慢的走过去", "慢慢地走过去"),
        ("高兴的不得了", "高兴得不得了"),
        ("我家有一个只狗", "我家有一只狗"),
        ("有三个个房间", "有三个房间"),
        ("一共165元，。谢谢", "一共165元。谢谢"),
        ("我也挺挺喜欢这个套餐", "我也挺喜欢这个套餐"),
        ("我们我觉得太贵了", "我觉得太贵了"),
        ("他们是最近两两个月才开的", "他们是最近两个月才开的"),
        ("那时候特别，特别厉害", "那时候特别厉害"),
        ("古时候嗯，人们靠天吃饭", "古时候，人们靠天吃饭"),
        ("我还嗯，加了一份", "我还加了一份"),
        ("Is there a table for 4 no wait 5 people", "Is there a table for 5 people"),
    ],
)
def test_spoken_language_is_smoothed(spoken: str, written: str) -> None:
    edits = smooth(spoken, SmoothDisfluency())
    assert apply_edits(spoken, [(start, end, new) for start, end, new, _ in edits]) == written


@pytest.mark.parametrize(
    "text",
    ["那个套餐多少钱", "看看", "天天", "慢慢来", "研究研究", "高高兴兴", "谢谢谢谢", "好好好", "适合您，您可以去", "额度是多少", "哈哈哈",
     "我的号码不对，我的号码是123", "对不对", "为了了解的的确确", "您说的那个，我知道了", "订单号112233445566",
     "上海海关", "中国国家队", "目的地地铁站", "可可西里", "呷哺呷哺", "拼多多", "一步一步来", "介绍介绍", "考虑考虑北京", "越来越好", "许许多多", "散散步",
     "非常非常好", "好的好的", "知道不知道", "几点到几点", "我怕我忘了", "他跟他说过", "是不是不行", "哈尔滨", "酒吧街", "《很爱很爱你》是她的歌", "上上个月", "聊聊天", "打打球", "他现在在北京", "唱的很好听的歌", "长的很高的树",
     "慢慢的节奏", "一个条件", "原唱的好听", "一个个人账户", "一一列举", "两两比较", "八八年", "唯一一个", "王朝酒店酒店价格", "妈妈说", "刚刚好", "天天开心", "哈哈，我知道", "是做什么的", "就是他", "那就他家吧", "嗯呢，可以的", "可不是嘛，真快", "上上国际美术馆", "我想就近住下", "他其他的作品",
     "我要那个红色的", "把那个订单取消", "因为下雨所以没送", "编号二零一一三五", "一九九九年", "There is no problem", "Sorry, no refunds",
     "I would rather stay", "What is no longer there", "《ER》", "that is all I had had"],
)  # fmt: skip
def test_correct_language_survives(text: str) -> None:
    assert smooth(text, SmoothDisfluency()) == []


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("You FUCKing ｆｕｃｋ", ["fuck"], ["ｆｕｃｋ"]),
        ("have an av", ["av"], ["av"]),
        ("第③名和第三名", ["第3名"], ["第③名", "第三名"]),
        ("Ⓕⓤc⒦", ["fuck"], ["Ⓕⓤc⒦"]),
        ("六合彩开奖", ["六合", "六合彩"], ["六合彩"]),
    ],
)
def test_words_are_found_in_all_their_spellings(text: str, words: list[str], found: list[str]) -> None:
    matcher = Matcher([Lexicon(tuple(words))], MatchSensitiveWords())
    assert [text[match.start : match.end] for match in matcher.find(text)] == found


def test_an_allowed_phrase_that_contains_a_word_wins() -> None:
    matcher = Matcher([Lexicon(("色情",), ("反对色情",))], MatchSensitiveWords())
    assert [match.start for match in matcher.find("反对色情，色情网站")] == [5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我今年34岁，我是女生", {"age": "34", "age_band": "25-34", "gender": "female"}),
        ("我现在住在成都", {"province": "四川省", "city": "成都市", "country": "中国"}),
        ("我是四川人", {"province": "四川省", "country": "中国"}),
        ("我在北京", {"province": "北京市", "city": "北京市", "country": "中国"}),
        ("我是学生", {"crowd": "student"}),
        ("我妈七十了", {}),
        ("我要去北京", {}),
        ("如果我是学生会便宜吗", {}),
        ("我不是学生", {}),
        ("我下周在上海出差", {}),
        ("他说“我是学生”", {}),
        ("I'm 34 years old and I'm a student", {"age": "34", "age_band": "25-34", "crowd": "student"}),
    ],
)
def test_only_what_users_say_of_themselves_is_a_tag(text: str, expected: dict[str, str]) -> None:
    tags = tags_of({}, [Said(0, "user", text, "")], date(2026, 11, 1))
    assert {tag.field: tag.value for tag in tags} == expected


def test_metadata_beats_statements_and_nonsense_is_unknown() -> None:
    said = [Said(0, "user", "我今年34岁，我在成都", "")]
    told = {tag.field: tag.value for tag in tags_of({"age": 50, "性别": "女", "省份": "浙江"}, said, date(2026, 11, 1))}
    assert told["age"] == "50"
    assert told["gender"] == "female"
    assert told["province"] == "浙江省"
    assert "city" not in told, "a city of another province contradicts"
    unreadable = tags_of({"age": 300, "gender": "?", "city": 7}, [], date(2026, 11, 1))
    assert {(tag.field, tag.value, tag.code) for tag in unreadable} == {
        ("age", "", "unreadable"), ("gender", "", "unreadable"), ("city", "", "unreadable")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("operators", "param"),
    [
        ([{"kind": "fly"}], "operators[0].kind"),
        ([{"kind": "smooth_disfluency"}, {"kind": "match_sensitive_words", "mask": "##"}], "operators[1].mask"),
        ([{"kind": "match_sensitive_words", "lexicons": ["lex-0"]}], "operators[0].lexicons"),
        ([{"kind": "truncate_history"}, {"kind": "smooth_disfluency"}], "operators[1].kind"),
        ([{"kind": "smooth_disfluency", "speed": 3}], "operators[0].speed"),
    ],
)
def test_a_recipe_that_cannot_work_names_operator_and_field(operators: list[dict[str, object]], param: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"operators": operators})
    assert caught.value.param == param


def test_the_fingerprint_is_of_contents_not_of_names() -> None:
    body = {"operators": [{"kind": "match_sensitive_words", "lexicons": ["lex-a"]}]}
    one = parse_recipe(body, lexicons={"lex-a": Lexicon(("x",))})
    other = parse_recipe(
        {"operators": [{**body["operators"][0], "lexicons": ["lex-b"]}]}, lexicons={"lex-b": Lexicon(("x",))}
    )
    changed = parse_recipe(body, lexicons={"lex-a": Lexicon(("y",))})
    assert one.fingerprint == other.fingerprint != changed.fingerprint
    assert parse_recipe(parse_recipe(None).resolved).fingerprint == parse_recipe(default_recipe()).fingerprint


def test_the_manifest_keeps_its_schema_and_statistics_add_up(examples: Path, tmp_path: Path) -> None:
    manifest = curate([examples / "dialogues.jsonl"], tmp_path, recipe=parse_recipe(None))
    jsonschema.validate(manifest, orjson.loads((ROOT / "trainer" / "manifest.schema.json").read_bytes()))
    counts = manifest["counts"]
    assert counts["conversations_in"] == counts["conversations_kept"] + counts["conversations_dropped"] == 400
    segments = [tmp_path / part["path"] for part in manifest["segments"]]
    for metric, total in (("conversations", counts["conversations_kept"]), ("turns", counts["turns_kept"])):
        answer = tag_statistics(segments, by=["crowd"], metric=metric)
        assert answer["total"] == total
        assert answer["multi_valued"] == ["crowd"]
    one = tag_statistics(segments, by=["gender"], where=[("province", "四川省"), ("province", "浙江省")])
    assert one["total"] == sum(
        tag_statistics(segments, by=["gender"], where=[("province", name)])["total"] for name in ("四川省", "浙江省")
    )
    assert pl.read_parquet(segments[0])["user"].struct.field("gender").drop_nulls().is_in(["female", "male"]).all()
