"""Ten times the length takes no rule of smoothing more than fifteen times as long, at turns of a megabyte."""

import gc
from collections.abc import Iterator
from functools import partial
from time import process_time

import pytest

from curation.operators.smooth_disfluency import Rules, SmoothDisfluency, smooth

HOSTILE = [
    "嗯",
    "我",
    "，",
    " ",
    "一",
    "不对，",
    "的很",
    "那个，",
    "天地人",
    "我想问一下，",
    "《",
    "a ",
    "um, no wait, ",
    "x no ",
    "I want to ",
]
RULES = {
    f"{kind} {getattr(rule.func if isinstance(rule, partial) else rule, '__name__', kind)}": rule
    for kind, rules in Rules.of(SmoothDisfluency()).of_kind.items()
    for rule in rules
}
SHORT_BYTES, LONG_BYTES = 100_000, 1_000_000
NOTHING_S = 0.01
"""Shorter times are not told apart."""


@pytest.fixture(autouse=True)
def _without_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def _text(said: str, num_bytes: int) -> str:
    return said * (num_bytes // len(said.encode()))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_takes_as_long_as_the_text_is(name: str) -> None:
    rule = RULES[name]

    def cpu_s(said: str, num_bytes: int) -> float:
        text, begun = _text(said, num_bytes), process_time()
        list(rule(text))
        return process_time() - begun

    for said in HOSTILE:
        shorter = max(min(cpu_s(said, SHORT_BYTES) for _ in range(2)), NOTHING_S)
        assert cpu_s(said, LONG_BYTES) <= 15 * shorter, said


@pytest.mark.parametrize("said", ["嗯", "不对，", "我就我想，嗯那个特特别好好的，去北京不对去上海。", "um, no wait, "])
def test_smoothing_takes_as_long_as_the_text_is(said: str) -> None:
    def cpu_s(num_bytes: int) -> float:
        text, begun = _text(said, num_bytes), process_time()
        smooth(text, SmoothDisfluency())
        return process_time() - begun

    cpu_s(100)
    shorter = max(min(cpu_s(SHORT_BYTES) for _ in range(2)), NOTHING_S)
    assert cpu_s(LONG_BYTES) <= 15 * shorter
