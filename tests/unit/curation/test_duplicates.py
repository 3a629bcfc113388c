"""Duplicates across segments: which conversation stays, who is named for those that go, and what does not matter."""

import json
import random
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import likely_pairs
from curation.command import curate
from curation.duplicates import differ_here_and_there
from curation.preview import preview
from curation.processes import processes
from curation.recipe import parse_recipe
from curation.shingles import BANDS, shingles, similarity, sketch

RECIPE = {"operators": [{"kind": "deduplicate"}]}
WORDS = [
    "查话费",
    "流量不够",
    "上个月的账单",
    "办宽带",
    "退订会员",
    "营业厅几点开门",
    "改套餐",
    "信号不好",
    "携号转网",
    "开发票",
]


def _talks(seed: int, number: int) -> list[list[str]]:
    """Conversations of four turns that have little in common."""
    chance = random.Random(seed)
    letters = [chr(code) for code in range(0x4E00, 0x5200)]
    return [["".join(chance.choices(letters, k=30)) + chance.choice(WORDS) for _ in range(4)] for _ in range(number)]


def _file(path: Path, talks: Sequence[Sequence[str]], name: str = "t") -> Path:
    lines = [
        json.dumps(
            {
                "id": f"{name}{n}",
                "messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)],
            }
        )
        for n, talk in enumerate(talks)
    ]
    path.write_text("\n".join(lines))
    return path


def _dropped(folder: Path) -> list[dict[str, Any]]:
    trace = pl.concat([pl.read_parquet(path) for path in sorted((folder / "trace").iterdir())])
    return trace.select("conversation_id", "code", "action", "after", "score").to_dicts()


def test_the_first_in_the_order_of_files_and_lines_stays_whatever_the_segments_and_workers(tmp_path: Path) -> None:
    talks = _talks(1, 60)
    near = [[text[:10] + "其" + text[11:] for text in talk] for talk in talks[:20]]
    first = _file(tmp_path / "a.jsonl", [*talks[:40], talks[3]], "a")
    second = _file(tmp_path / "b.jsonl", [*near, *talks[35:]], "b")
    made = {}
    for segment_bytes, workers in ((1 << 20, 1), (2_000, 1), (2_000, 2)):
        out = tmp_path / f"{segment_bytes}-{workers}"
        with processes(workers, at_once=True) as spread:
            settings = {"as_of": date(2026, 11, 1), "segment_bytes": segment_bytes, "spread": spread}
            manifest = curate([first, second], out, recipe=parse_recipe(RECIPE), **settings)
        rows = _dropped(out)
        made[segment_bytes, workers] = (manifest["digest"], manifest["counts"], rows)
        assert (len(manifest["segments"]) > 4) == (segment_bytes == 2_000)
    assert made[1 << 20, 1] == made[2_000, 1] == made[2_000, 2]
    counts, rows = made[2_000, 1][1:]
    told = {row["conversation_id"]: (row["code"], row["after"]) for row in rows}
    assert told == {
        "a40": ("exact", "a3"),
        **{f"b{n}": ("near", f"a{n}") for n in range(20)},
        **{f"b{20 + n}": ("exact", f"a{35 + n}") for n in range(5)},
    }
    assert counts["conversations_in"] == 41 + 45 == counts["conversations_kept"] + len(rows)


def test_a_dropped_conversation_stands_for_no_other_one() -> None:
    """Each of a chain is like the one before it only; the last two are kept for what they are like themselves."""
    (talk,) = _talks(2, 1)
    chain = [talk]
    for begin in (0, 12):
        chain.append([text[:begin] + "变化" * 3 + text[begin + 6 :] for text in chain[-1]])
    given = [
        {
            "id": f"c{n}",
            "messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(one)],
        }
        for n, one in enumerate([*chain, chain[1]])
    ]
    one = preview(
        given, parse_recipe({"operators": [{"kind": "deduplicate", "threshold": 0.5}]}), as_of=date(2026, 1, 1)
    )
    assert [made["dropped"] and made["dropped"]["code"] for made in one] == [None, "near", None, "near"]
    assert one[3]["trace"][0]["after"] == "c0", "the same as a dropped one: the kept one is named"


def test_how_many_are_looked_at_together_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size of crowd and window, from one at a time, gives what comparing with all that stand gives."""
    chance = random.Random(3)
    talks = [
        ["".join("变" if chance.random() < rate else character for character in text) for text in talk]
        for talk in _talks(3, 12)
        for rate in chance.choices((0.0, 0.01, 0.02, 0.04, 0.07), k=chance.choice((1, 3, 20)))
    ]
    chance.shuffle(talks)
    given = [{"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)]}
             for talk in talks]  # fmt: skip
    made = []
    for window, pairs, crowd in ((1_024, 1_000, 64), (1_024, 1_000, 0), (7, 50, 5), (1, 1, 1_000), (1_024, 60, 1_000)):
        monkeypatch.setattr(likely_pairs, "WINDOW", window)
        monkeypatch.setattr(likely_pairs, "CROWD", crowd)
        monkeypatch.setattr(likely_pairs, "WINDOW_PAIRS", pairs)
        monkeypatch.setattr(likely_pairs, "SKETCHES_AT_ONCE", window + 3)
        answers = preview(given, parse_recipe(RECIPE), as_of=date(2026, 1, 1))
        made.append([(one["dropped"], one["trace"]) for one in answers])
    assert made == made[:1] * len(made)
    codes = [one["dropped"]["code"] for one in answers if one["dropped"]]
    assert {"exact", "near"} == set(codes)
    assert len(codes) < len(talks) - 12, "some are too unlike what stands, so more stand than there were originals"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("我想查一下上个月的话费账单为什么多", "我想查下上个月的话废账单为什么多", True),
        (
            "I want an iced latte with oat milk and chocolate sauce",
            "I want an iced latte with oat milk and sweetener",
            False,
        ),
        ("yes", "Yes.", True),
    ],
)
def test_scattered_edits_pass_and_another_content_does_not(one: str, other: str, alike: bool) -> None:
    assert differ_here_and_there((("user",), (one,)), (("user",), (other,)), 0.6) is alike


def test_a_template_with_other_numbers_stays() -> None:
    said = ["我要查第{}单的进度，等了很久还没有消息，谢谢", "好的，第{}单已经发货，共{}元，请您保持电话畅通，耐心等待"]
    given = [
        {
            "messages": [
                {"role": role, "content": text.format(n, 7 * n)}
                for role, text in zip(("user", "assistant"), said, strict=True)
            ]
        }
        for n in (3, 4, 12, 4)
    ]
    made = preview(given, parse_recipe(RECIPE), as_of=date(2026, 1, 1))
    assert [one["dropped"] and one["dropped"]["code"] for one in made] == [None, None, None, "exact"]


@pytest.mark.parametrize(("filling", "dropped"), [("", None), ("，我已经等了三天还没有人给我回电话", "near")])
def test_short_conversations_have_exact_duplicates_only(filling: str, dropped: str | None) -> None:
    said = ["请问{}怎么退款" + filling, "好的，马上为您办理" + filling]
    given = [
        {
            "messages": [
                {"role": role, "content": text.format(name)}
                for role, text in zip(("user", "assistant"), said, strict=True)
            ]
        }
        for name in ("耳机", "耳麦")
    ]
    made = preview(given, parse_recipe(RECIPE), as_of=date(2026, 1, 1))
    assert [one["dropped"] and one["dropped"]["code"] for one in made] == [None, dropped]


def test_roles_and_further_turns_count() -> None:
    short = ("user", "assistant"), ("我想查一下上个月的话费账单", "您上个月的话费一共是六十九元")
    assert differ_here_and_there(short, (short[0] + ("user",), short[1] + ("谢",)), 0.6)
    assert not differ_here_and_there(short, (short[0] + ("user",), short[1] + ("还想再问一下流量还剩多少",)), 0.6)
    assert not differ_here_and_there(short, (("system", "assistant"), short[1]), 0.6)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_a_sketch_does_not_depend_on_neighbours(texts: list[str]) -> None:
    together = sketch(pl.Series(texts, dtype=pl.String))
    for place, text in enumerate(texts):
        assert sketch(pl.Series([text])).rows() == [together.row(place)]


def test_texts_share_bands_as_often_as_their_similarity_says() -> None:
    chance = random.Random(7)
    letters = [chr(code) for code in range(0x4E00, 0x5200)]
    ones = ["".join(chance.choices(letters, k=300)) for _ in range(300)]
    others = ["".join(chance.choice(letters) if chance.random() < 0.05 else c for c in text) for text in ones]
    scores = [similarity(shingles(a), shingles(b)) for a, b in zip(ones, others, strict=True)]
    expected = sum(1 - (1 - score**6) ** BANDS for score in scores) / len(scores)
    bands = [f"band_{band}" for band in range(BANDS)]
    mine, theirs = (sketch(pl.Series(texts)).select(bands).to_numpy() for texts in (ones, others))
    assert abs((mine == theirs).any(axis=1).mean() - expected) < 0.05
    assert not (mine[1:] == mine[:-1]).any(), "texts with nothing in common share no band"
