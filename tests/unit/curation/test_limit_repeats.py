"""Canned replies beyond a limit are not learned, the first ones are, whatever the segments."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from curation.command import curate
from curation.operators.limit_repeats import LimitRepeats
from curation.recipe import parse_recipe


def _replies(number: int) -> list[str]:
    """Every second reply is the canned one."""
    return ["不客气。" if place % 2 else f"第{place}个回答" for place in range(number)]


def _learned(
    folder: Path, source: Path, segment_bytes: int, **config: Any
) -> tuple[list[str], list[bool], dict[str, Any]]:
    recipe = parse_recipe({"operators": [{"kind": "limit_repeats", **config}]})
    manifest = curate([source], folder, recipe=recipe, as_of=date(2026, 11, 1), segment_bytes=segment_bytes)
    rows = pl.concat([pl.read_parquet(folder / part["path"]) for part in manifest["segments"]])
    replies = [message for row in rows["messages"] for message in row if message["role"] == "assistant"]
    return [one["content"] for one in replies], [one["weight"] != 0 for one in replies], manifest


@pytest.mark.parametrize(
    ("config", "limit", "code"),
    [
        ({"max_per_reply": 7}, 7, "max_per_reply"),
        ({"max_share": 0.1}, 6, "max_share"),
        ({"max_per_reply": 3, "max_share": 0.1}, 3, "max_per_reply"),
        ({}, 1, "max_share"),
    ],
)
def test_the_first_ones_are_learned_across_segments(
    tmp_path: Path, config: dict[str, Any], limit: int, code: str
) -> None:
    source = tmp_path / "talks.jsonl"
    said = [
        {"messages": [{"role": "user", "content": "谢谢"}, {"role": "assistant", "content": r}]} for r in _replies(60)
    ]
    source.write_text("\n".join(map(json.dumps, said)))
    digests = set()
    for segment_bytes in (500, 1 << 20):
        texts, learned, manifest = _learned(tmp_path / str(segment_bytes), source, segment_bytes, **config)
        digests.add(manifest["digest"])
        assert texts == _replies(60), "all keep their place"
        canned = [is_learned for text, is_learned in zip(texts, learned, strict=True) if text == "不客气。"]
        assert canned == [True] * limit + [False] * (30 - limit)
        assert sum(learned) == 30 + limit
        assert manifest["counts"]["by_operator"]["limit_repeats"]["codes"] == {code: 30 - limit}
    assert len(digests) == 1


def test_limits_make_sense() -> None:
    for config in ({"max_per_reply": 0}, {"max_share": 0}, {"max_share": 1.5}):
        with pytest.raises(ValidationError):
            LimitRepeats.model_validate(config)
    assert LimitRepeats().max_share == 0.01
    assert LimitRepeats(max_per_reply=3).max_share is None
