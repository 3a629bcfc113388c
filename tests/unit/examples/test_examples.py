"""The examples are current, and hold what they promise."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def dialogues(examples: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (examples / "dialogues.jsonl").read_text("utf-8").splitlines()]


def test_the_committed_file_is_what_the_generator_makes(examples: Path) -> None:
    assert subprocess.run([sys.executable, examples / "generate.py", "--check"], check=False).returncode == 0


def test_there_are_enough_conversations_of_every_domain(dialogues: list[dict[str, Any]]) -> None:
    domains = Counter(dialogue["meta"]["domain"] for dialogue in dialogues)
    assert len(dialogues) >= 300
    assert set(domains) == {"telecom", "ecommerce", "bank", "travel"}
    assert min(domains.values()) >= 50
    assert len({dialogue["id"] for dialogue in dialogues}) == len(dialogues)


@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        (r"[嗯呃]", 150),
        (r"我我|我想我想|我要我要|这这|帮帮我|帮我帮我", 40),
        (r"不对", 15),
        (r"\b[Uu][mh]\b|[Yy]ou know", 20),
        (r"王八蛋|去死吧|操你妈|百家乐|刷单返利|bullshit", 15),
        (r"1[3-9]\d{9}", 15),
        (r"\d{17}[\dX]", 15),
        (r"我今年\d+岁|years old", 5),
        (r"那个套餐|那个流量包", 5),
        (r"我妈七十|如果我是学生", 5),
    ],
)
def test_each_phenomenon_is_there(dialogues: list[dict[str, Any]], pattern: str, least: int) -> None:
    turns = [message["content"] for dialogue in dialogues for message in dialogue["messages"]]
    assert sum(re.search(pattern, turn) is not None for turn in turns) >= least
