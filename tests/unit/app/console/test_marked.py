"""Marks say what the trace says: what stands in them put together is the original, and the curated text."""

from datetime import date
from pathlib import Path

import orjson

from app.console.marked import mark
from curation.preview import preview
from curation.recipe import parse_recipe


def test_marks_add_up_to_both_texts(examples: Path) -> None:
    lines = (examples / "dialogues.jsonl").read_bytes().splitlines()[:100]
    talks = [orjson.loads(line) for line in lines]
    changed = 0
    for one in preview(talks, parse_recipe(None), as_of=date(2026, 1, 1)):
        turns = mark(one["original"]["messages"], one["trace"])
        before = ["".join(span.text for span in turn.before) for turn in turns]
        assert before == [message["content"] for message in one["original"]["messages"]]
        if one["curated"] is None or one["windows"]:
            continue
        after = ["".join(span.text for span in turn.after) for turn in turns if turn.gone is None]
        assert after == [message["content"] for message in one["curated"]["messages"]]
        changed += sum(turn.is_changed for turn in turns)
    assert changed > 50


def test_a_mark_names_the_row_that_made_it() -> None:
    row = {"turn": 0, "operator": "smooth_disfluency", "code": "filler", "action": "edit", "before": "嗯", "after": "", "start": 0, "end": 1}  # fmt: skip
    mask = {"turn": 0, "operator": "match_sensitive_words", "code": "sensitive_word", "action": "mask", "before": "坏", "after": "*", "start": 1, "end": 2}  # fmt: skip
    (turn,) = mark([{"role": "user", "content": "嗯很坏"}], [row, mask])
    assert [(span.text, span.reason) for span in turn.before] == [("嗯", row), ("很", None), ("坏", mask)]
    assert [(span.text, span.reason) for span in turn.after] == [("很", None), ("*", mask)]
