"""BLEU and chrF: sacreBLEU's own numbers, languages apart, intervals that conversations make and not replies."""

import pytest
import sacrebleu

from trainer.evaluation.text_scores import Compared, score

SAID = [
    "好的，正在为您查询，请稍等。",
    "您的话费余额是三十六元。",
    "不客气，祝您生活愉快。",
    "请问还有其他可以帮您的吗？",
]
GENERATED = ["好的，正在为您查询。", "您的余额是三十五元。", "不客气，祝您生活愉快。", "请问有什么可以帮您的吗？"]


def compared(times: int = 1) -> list[Compared]:
    pairs = list(zip(SAID, GENERATED, strict=True))
    return [Compared(str(number), *pair) for number, pair in enumerate(pairs) for _ in range(times)]


def test_scores_are_sacrebleus_own() -> None:
    found = score(compared(), seed=0)["zh"]
    assert found.bleu == pytest.approx(sacrebleu.corpus_bleu(GENERATED, [SAID], tokenize="zh").score)
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(GENERATED, [SAID]).score)
    assert "tok:zh" in found.bleu_signature
    assert found.low < found.bleu < found.high


def test_languages_are_scored_apart_by_what_was_said() -> None:
    english = [
        Compared("e", "Your balance is 36 dollars.", "Your balance is 36 dollars."),
        Compared("e", "Yes.", "是的"),
    ]
    found = score([*compared(), *english], seed=0)
    assert found["zh"] == score(compared(), seed=0)["zh"]
    assert "tok:13a" in found["en"].bleu_signature
    assert (found["en"].replies, found["en"].conversations) == (2, 1)
    assert found["en"].bleu == pytest.approx(
        sacrebleu.corpus_bleu([one.generated for one in english], [[one.reference for one in english]]).score
    )


def test_replies_of_one_conversation_are_no_more_evidence() -> None:
    """Each reply said forty times in its conversation: as unsure as before, though no longer few."""
    once, often = score(compared(), seed=3)["zh"], score(compared(40), seed=3)["zh"]
    assert (often.bleu, often.low, often.high) == pytest.approx((once.bleu, once.low, once.high))
    assert once.is_too_small
    assert not often.is_too_small


def test_nothing_generated_scores_nothing() -> None:
    found = score([Compared("a", text, "") for text in SAID], seed=0)["zh"]
    assert (found.bleu, found.low, found.high, found.chrf) == (0, 0, 0, 0)
    assert score([], seed=0) == {}
