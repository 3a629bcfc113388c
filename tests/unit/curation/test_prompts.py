"""Prompts drawn from conversations: by the seed alone, each once, up to what the user said last."""

from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from made_versions import conversation, made_version

from curation.prompts import draw_prompts
from curation.segments import RAW_SCHEMA, write_parquet


def raw_segments(folder: Path, texts: list[list[tuple[str, str]]], rows: int = 3) -> list[Path]:
    paths = []
    for start in range(0, len(texts), rows):
        messages = [
            [{"role": role, "content": text, "weight": None} for role, text in turns]
            for turns in texts[start : start + rows]
        ]
        ids = [f"c{start + place}" for place in range(len(messages))]
        frame = pl.DataFrame({"id": ids, "line": 1, "messages": messages, "user": None, "meta": None}, RAW_SCHEMA)
        paths.append(folder / f"{rows}-{start}.parquet")
        write_parquet(frame, paths[-1])
    return paths


def test_a_prompt_ends_with_what_the_user_said_last(tmp_path: Path) -> None:
    talks = [
        [
            ("system", "s"),
            ("user", "u1"),
            ("assistant", "a1"),
            ("user", "u2"),
            ("assistant", "a2"),
            ("assistant", "a3"),
        ],
        [("assistant", "outbound"), ("user", "never answered")],
        [("assistant", "nobody there")],
    ]
    drawn = {prompt.conversation_id: prompt for prompt in draw_prompts(raw_segments(tmp_path, talks), 10, 0)}
    assert {name: prompt.reference for name, prompt in drawn.items()} == {"c0": "a2", "c1": None}
    assert [one["content"] for one in drawn["c0"].messages] == ["s", "u1", "a1", "u2"]
    assert drawn["c0"].messages[0] == {"role": "system", "content": "s"}


def test_what_was_asked_before_is_drawn_once(tmp_path: Path) -> None:
    talks = [[("user", f"q{place % 4}"), ("assistant", f"a{place}")] for place in range(20)]
    drawn = draw_prompts(raw_segments(tmp_path, talks), 3, 1)
    assert len(drawn) == len({prompt.messages[-1]["content"] for prompt in drawn}) == 3
    assert len(draw_prompts(raw_segments(tmp_path, talks), 100, 1)) == 4


@given(seed=st.integers(0, 2**63 - 1), count=st.integers(1, 12), rows=st.integers(1, 12))
def test_the_draw_follows_from_seed_and_ids_alone(tmp_path_factory: object, seed: int, count: int, rows: int) -> None:
    folder = Path(tmp_path_factory.mktemp("draw"))  # type: ignore[attr-defined]
    talks = [[("user", f"question {place}"), ("assistant", "yes")] for place in range(11)]
    drawn = draw_prompts(raw_segments(folder, talks, rows), count, seed)
    assert drawn == draw_prompts(raw_segments(folder, talks, 11), 11, seed)[:count]


def test_a_conversation_in_windows_counts_once_by_its_last(tmp_path: Path) -> None:
    turns = [turn for place in range(12) for turn in (("user", f"问题{place}" * 8), ("assistant", f"回答{place}" * 8))]
    recipe = {
        "operators": [{"kind": "truncate_history", "mode": "windows", "max_source_length": 64, "max_target_length": 32}]
    }
    folder, _ = made_version(tmp_path, [conversation("long", *turns), conversation("short", *turns[:2])], recipe)
    assert pl.read_parquet(folder.segments[0]).height > 3
    drawn = {prompt.conversation_id: prompt for prompt in draw_prompts(folder.segments, 10, 0)}
    assert set(drawn) == {"long", "short"}
    assert drawn["long"].messages[-1]["content"] == "问题11" * 8
    assert drawn["long"].reference == "回答11" * 8
