"""Exports: the same messages come back, and every line has the same members, so that tools can open them by blocks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.json as arrow_json
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_versions import conversation, made_version

from curation.exports import MEDIA_TYPES, export_version, shape_of
from curation.formats.messages import parse_conversation

JSON_FORMATS = [name for name in MEDIA_TYPES if name != "parquet"]
CONVERSATIONS = [
    conversation("plain", ("user", "你好"), ("assistant", "您好")),
    conversation(
        "rules", ("system", "简短"), ("user", "q1"), ("assistant", "a1", 0), ("user", "q2"), ("assistant", "a2")
    ),
    conversation(
        "called", ("assistant", "喂，您好"), ("user", "在"), ("assistant", "好"), ("user", "再见"), user={"id": "u1"}
    ),
    conversation("young", ("user", "q"), ("assistant", "a"), user={"age": 0}, meta={"time": "2026-01-01", "n": 1}),
]
TAGGED = {"operators": [{"kind": "structure_dialogue"}, {"kind": "tag_users"}]}


def _lines(segments: Sequence[Path], format: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(export_version(segments, format)).splitlines()]


def _from_alpaca(line: dict[str, Any]) -> list[dict[str, Any]]:
    """What the Alpaca convention says a line means: an empty side is no turn."""
    pairs = [*line["history"], [line["instruction"], line["output"]]]
    turns = [
        ("system", line["system"]),
        *((role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)),
    ]
    return [{"role": role, "content": text} for role, text in turns if text]


def _messages(line: dict[str, Any], format: str) -> list[dict[str, Any]]:
    if format == "alpaca":
        return _from_alpaca(line)
    parsed = parse_conversation(line, {})
    assert parsed.id == line["id"]
    return parsed.messages


@pytest.mark.parametrize("format", JSON_FORMATS)
def test_the_messages_come_back_turn_by_turn(tmp_path: Path, format: str) -> None:
    folder, _ = made_version(tmp_path, CONVERSATIONS, TAGGED, segment_rows=2)
    for sent, line in zip(CONVERSATIONS, _lines(folder.segments, format), strict=True):
        back = _messages(line, format)
        assert line["id"] == sent["id"]
        assert [(m["role"], m["content"]) for m in back] == [(m["role"], m["content"]) for m in sent["messages"]]
        if format != "alpaca":
            weights = [m["weight"] for m in back if m["role"] == "assistant"]
            assert weights == [m.get("weight", 1) for m in sent["messages"] if m["role"] == "assistant"]


TURNS = st.lists(
    st.tuples(st.sampled_from(["user", "assistant"]), st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)),
    min_size=1, max_size=9,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=TURNS)
def test_alpaca_pairs_tell_any_order_of_turns(tmp_path: Path, turns: list[tuple[str, str]]) -> None:
    folder, _ = made_version(tmp_path, [conversation("c", *turns)], {"operators": []})
    (line,) = _lines(folder.segments, "alpaca")
    assert [(m["role"], m["content"]) for m in _from_alpaca(line)] == turns
    assert line["output"] == "" or turns[-1][0] == "assistant"


@pytest.mark.parametrize("format", JSON_FORMATS)
def test_every_line_has_the_same_members(tmp_path: Path, format: str) -> None:
    folder, _ = made_version(tmp_path / "version", CONVERSATIONS, TAGGED, segment_rows=2)
    lines = _lines(folder.segments, format)
    assert len({tuple(line) for line in lines}) == 1
    assert {tuple(line["user"]) for line in lines} == {("id", "age", "age_band")}
    assert [line["user"]["age"] for line in lines] == [None, None, None, 0]
    assert [line["meta"] for line in lines] == [{}, {}, {}, {"time": "2026-01-01", "n": 1}]
    turns = [turn for line in lines for turn in line.get("messages") or line.get("conversations") or []]
    replies = [turn for turn in turns if turn.get("role", turn.get("from")) in ("assistant", "gpt")]
    assert all("weight" in turn for turn in replies)
    assert not any("weight" in turn for turn in turns if turn not in replies)


@pytest.mark.parametrize("format", JSON_FORMATS)
def test_what_a_version_does_not_know_stands_in_no_line(tmp_path: Path, format: str) -> None:
    folder, _ = made_version(tmp_path, CONVERSATIONS[:1])
    (line,) = _lines(folder.segments, format)
    assert not {"user", "meta"} & set(line)
    assert "weight" not in json.dumps(line)


@pytest.mark.parametrize("format", JSON_FORMATS)
def test_readers_that_go_by_blocks_open_an_export(tmp_path: Path, examples: Path, format: str) -> None:
    """The first block knows no tag and no weight; later ones do."""
    plain = [conversation(f"p{i}", *[("user", "问" * 5), ("assistant", "答" * 5)] * 2) for i in range(300)]
    rich = [json.loads(line) for line in (examples / "dialogues.jsonl").read_text("utf-8").splitlines()]
    recipe = {
        "operators": [
            {"kind": "structure_dialogue"},
            {"kind": "tag_users"},
            {"kind": "truncate_history", "mode": "windows", "max_source_length": 64, "max_target_length": 32},
        ]
    }
    folder, manifest = made_version(tmp_path / "version", plain + rich, recipe, segment_rows=200)
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(export_version(folder.segments, format)))
    table = arrow_json.read_json(str(path), read_options=arrow_json.ReadOptions(block_size=16_384, use_threads=False))
    assert table.num_rows == manifest["counts"]["rows"]
    frame = pl.read_ndjson(path, infer_schema_length=None)
    assert frame.height == table.num_rows
    assert set(frame.columns) == set(table.schema.names)
    assert frame["user"].struct.field("province").drop_nulls().len() > 50


def test_the_parquet_export_is_one_file_with_a_row_each(tmp_path: Path) -> None:
    folder, manifest = made_version(tmp_path / "version", CONVERSATIONS, TAGGED, segment_rows=2)
    path = tmp_path / "export.parquet"
    path.write_bytes(b"".join(export_version(folder.segments, "parquet")))
    with pq.ParquetFile(path) as file:
        rows = file.read().to_pylist()
    assert [row["id"] for row in rows] == [one["id"] for one in CONVERSATIONS]
    for row, sent in zip(rows, CONVERSATIONS, strict=True):
        assert row["messages"] == [{"weight": None, **message} for message in sent["messages"]]
    assert rows[3]["user"]["age"] == 0
    assert json.loads(rows[3]["meta"]) == CONVERSATIONS[3]["meta"]
    assert pl.read_parquet(path).schema["messages"] == pl.List(
        pl.Struct({"role": pl.String, "content": pl.String, "weight": pl.Int64})
    )
    assert manifest["counts"]["rows"] == 4


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_version_that_keeps_nothing_gives_an_empty_file(tmp_path: Path, format: str) -> None:
    folder, _ = made_version(tmp_path / "version", [conversation("c", ("user", "喂"))])
    written = b"".join(export_version(folder.segments, format))
    if format == "parquet":
        (tmp_path / "e.parquet").write_bytes(written)
        assert pl.read_parquet(tmp_path / "e.parquet").height == 0
    else:
        assert written == b""
    assert b"".join(export_version([], format))[:4] in (b"PAR1", b"")
    assert shape_of([]).user_fields == ()


def test_an_export_comes_in_pieces(tmp_path: Path) -> None:
    folder, _ = made_version(
        tmp_path, [conversation(f"c{i}", ("user", "q"), ("assistant", "a")) for i in range(5_000)], segment_rows=5_000
    )
    for format in MEDIA_TYPES:
        assert len(list(export_version(folder.segments, format))) >= 3


@pytest.mark.shared_data
@pytest.mark.parametrize("format", JSON_FORMATS)
def test_real_conversations_come_back_word_by_word(tmp_path: Path, shared_data: Path, format: str) -> None:
    lines = [
        line
        for name in ("dialog.crosswoz.val.jsonl", "dialog.kdconv.dev.jsonl", "dialog.taskmaster4_data07.jsonl")
        for line in (shared_data / name).read_bytes().split(b"\n")[:100]
        if line
    ]
    sent = [{**json.loads(line), "id": f"c{index}"} for index, line in enumerate(lines)]
    folder, manifest = made_version(tmp_path, sent, segment_rows=120)
    assert manifest["counts"]["conversations_kept"] > 250
    kept = [row for path in folder.segments for row in pl.read_parquet(path).to_dicts()]
    for row, line in zip(kept, _lines(folder.segments, format), strict=True):
        assert [(m["role"], m["content"]) for m in _messages(line, format)] == [
            (m["role"], m["content"]) for m in row["messages"]
        ]
