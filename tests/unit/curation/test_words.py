"""jieba is the reference for words and parts of speech; its Rust form answers the same where smoothing asks it."""

import logging
import re
import warnings
from pathlib import Path

import orjson
import pytest

from curation.smoothing.words import Vocabulary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of 2020, it warns of its own escapes and of pkg_resources
    import jieba
    import jieba.posseg

jieba.setLogLevel(logging.ERROR)
SENTENCES = [
    "我想查一下这个月的话费还有多少", "上海海关的电话是多少", "他说他明天不去北京了", "特别特别想去长城看看",
    "研究研究再说", "打电话给客服也没有人接", "请问你们那个套餐怎么收费", "天天向上慢慢来",
]  # fmt: skip
HAN = re.compile("[\u4e00-\u9fff]+")


def test_words_of_sentences() -> None:
    vocabulary = Vocabulary.of()
    assert [vocabulary.words(text)._words for text in SENTENCES] == [jieba.lcut(text) for text in SENTENCES]


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["dialog.crosswoz.val", "dialog.kdconv.dev"])
def test_words_of_real_dialogues(shared_data: Path, name: str) -> None:
    lines = (shared_data / f"{name}.jsonl").read_bytes().splitlines()
    turns = [message["content"] for line in lines for message in orjson.loads(line)["messages"]]
    stretches = sorted({found for turn in turns for found in HAN.findall(turn)})
    assert len(stretches) > 10_000
    vocabulary = Vocabulary.of()
    assert [text for text in stretches if vocabulary.words(text)._words != jieba.lcut(text)] == []


@pytest.mark.shared_data
def test_parts_of_speech_of_words_in_the_dictionary(shared_data: Path) -> None:
    """Of words that are in no dictionary jieba guesses parts of speech by a model that its Rust form lacks."""
    lines = (shared_data / "dialog.crosswoz.val.jsonl").read_bytes().splitlines()
    text = "".join(message["content"] for line in lines for message in orjson.loads(line)["messages"])
    vocabulary = Vocabulary.of()
    words = {word for found in HAN.findall(text) for word in jieba.lcut(found) if vocabulary.holds(word)}
    assert len(words) > 2_000
    expected = {word: [pair.flag for pair in jieba.posseg.cut(word)] for word in words}
    differing = {word for word in words if len(expected[word]) == 1 and [vocabulary.tag(word)] != expected[word]}
    assert differing == set()
