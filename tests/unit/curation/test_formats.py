"""Files in every form that users have, and in the forms they should not have."""

import csv
import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import InputError
from curation.formats import Ingested, ingest
from curation.formats.json_array import read_elements
from curation.formats.times import iso_time, seconds_of
from curation.segments import ARROW, scan_raw

CONVERSATIONS: list[dict[str, Any]] = [
    {
        "id": f"c{i}",
        "messages": [
            {"role": "user", "content": f'你好，第{i}次\n换行,逗号"引号'},
            {"role": "assistant", "content": "您好！"},
        ],
    }
    for i in range(5)
]
ALPACA = [
    {"instruction": turns["messages"][0]["content"], "input": "", "output": "您好！", "id": turns["id"]}
    for turns in CONVERSATIONS
]
SHAREGPT = [
    {
        "id": turns["id"],
        "conversations": [
            {"from": "human", "value": turns["messages"][0]["content"]},
            {"from": "gpt", "value": "您好！"},
        ],
    }
    for turns in CONVERSATIONS
]
ROWS = [
    {"会话ID": turns["id"], "角色": "客户" if m["role"] == "user" else "客服", "内容": m["content"], "时间": f"2024-03-0{n + 1} 10:0{i}:00"}
    for n, turns in enumerate(CONVERSATIONS)
    for i, m in enumerate(turns["messages"])
]  # fmt: skip


def _lines(records: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()


def _csv(rows: list[Mapping[str, Any]], **options: Any) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(records: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), sink)
    return sink.getvalue()


def _ingest(content: bytes, folder: Path, **options: Any) -> Ingested:
    source = folder / "file"
    source.write_bytes(content)
    return ingest(source, folder / "out", sha256="ab" * 32, **options)


def _rows(ingested: Ingested) -> list[dict[str, Any]]:
    return [row for segment in ingested.segments for row in pl.read_parquet(segment.path).to_dicts()]


def _turns(ingested: Ingested) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(row["id"], [(m["role"], m["content"]) for m in row["messages"]]) for row in _rows(ingested)]


def _quarantine(ingested: Ingested) -> dict[int, str]:
    return dict(pl.read_parquet(ingested.quarantine).iter_rows())


EXPECTED = [(c["id"], [(m["role"], m["content"]) for m in c["messages"]]) for c in CONVERSATIONS]
FORMS = {
    "messages": _lines(CONVERSATIONS),
    "sharegpt": _lines(SHAREGPT),
    "alpaca": _lines(ALPACA),
    "flat_turns": _lines(ROWS),
    "messages in an array": json.dumps(CONVERSATIONS).encode(),
    "sharegpt in an indented array": json.dumps(SHAREGPT, indent=2, ensure_ascii=False).encode(),
    "flat_turns in CSV": _csv(ROWS),
    "flat_turns in CSV of Excel": b"\xef\xbb\xbf" + _csv(ROWS, delimiter=";", quoting=csv.QUOTE_ALL),
    "flat_turns in TSV": _csv(ROWS, delimiter="\t"),
    "flat_turns in GB18030": _csv(ROWS).decode().encode("gb18030"),
    "alpaca in CSV": _csv(ALPACA),
    "messages in GB18030": _lines(CONVERSATIONS).decode().encode("gb18030"),
    "messages in CSV": _csv([{**c, "messages": json.dumps(c["messages"])} for c in CONVERSATIONS]),
    "messages in Parquet": _parquet(CONVERSATIONS),
    "sharegpt in Parquet": _parquet(SHAREGPT),
    "flat_turns in Parquet": _parquet(ROWS),
    "messages under data": json.dumps({"data": CONVERSATIONS}, indent=1).encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_every_form_is_detected_and_read_to_the_same_conversations(form: str, pack: Any, tmp_path: Path) -> None:
    ingested = _ingest(pack(FORMS[form]), tmp_path)
    assert ingested.format == form.split(maxsplit=1)[0]
    assert _turns(ingested) == EXPECTED
    assert (ingested.conversations, ingested.turns, ingested.quarantined) == (5, 10, 0)
    assert (
        ingested.detection.get("compression") == {bytes: None, gzip.compress: "gzip", zstandard.compress: "zstd"}[pack]
    )


def test_detection_tells_columns_and_speakers(tmp_path: Path) -> None:
    found = _ingest(_csv(ROWS, delimiter=";").decode().encode("gb18030"), tmp_path).detection
    assert found["container"] == "csv"
    assert found["delimiter"] == ";"
    assert found["encoding"] == "gb18030"
    assert found["columns"] == {"conversation_id": "会话ID", "speaker": "角色", "text": "内容", "time": "时间"}
    assert found["speakers"] == {"客户": "user", "客服": "assistant"}


@pytest.mark.parametrize("segment_bytes", [40, 200, 10_000_000])
def test_compression_does_not_change_the_segments(segment_bytes: int, tmp_path: Path) -> None:
    plain = _ingest(
        FORMS["messages"], tmp_path / "a" if (tmp_path / "a").mkdir() is None else tmp_path, segment_bytes=segment_bytes
    )
    packed = _ingest(
        gzip.compress(FORMS["messages"]),
        tmp_path / "b" if (tmp_path / "b").mkdir() is None else tmp_path,
        segment_bytes=segment_bytes,
    )
    assert [s.path.read_bytes() for s in plain.segments] == [s.path.read_bytes() for s in packed.segments]


def test_rows_anywhere_in_the_file_become_conversations_in_order_of_time(tmp_path: Path) -> None:
    shuffled = [ROWS[i] for i in (3, 0, 9, 1, 2, 8, 5, 4, 7, 6)]
    ingested = _ingest(_csv(shuffled), tmp_path, segment_bytes=100)
    by_id = dict(EXPECTED)
    assert _turns(ingested) == [(name, by_id[name]) for name in ("c1", "c0", "c4", "c2", "c3")]
    assert len(ingested.segments) > 1
    assert any("out of order" in warning for warning in ingested.warnings)
    assert json.loads(_rows(ingested)[0]["meta"])["time"] == "2024-03-02T10:00:00"


def test_a_table_keeps_what_it_says_about_users(tmp_path: Path) -> None:
    rows = [{**row, "年龄": 30, "省份": "四川", "渠道": "电话"} for row in ROWS]
    row = _rows(_ingest(_csv(rows), tmp_path))[0]
    assert json.loads(row["user"]) == {"age": "30", "province": "四川"}
    assert json.loads(row["meta"])["渠道"] == "电话"


def test_columns_and_speakers_of_any_name_can_be_mapped(tmp_path: Path) -> None:
    rows = [
        {"k": "1", "w": "speaker1", "t": "你好"},
        {"k": "1", "w": "speaker2", "t": "您好"},
        {"k": "1", "w": "旁白", "t": "音乐"},
    ]
    with pytest.raises(InputError, match="conversation_id, speaker, text"):
        _ingest(_csv(rows), tmp_path)
    columns = {"k": "conversation_id", "w": "role", "t": "内容"}
    speakers = {"speaker1": "user", "speaker2": "assistant", "旁白": "ignore"}
    ingested = _ingest(_csv(rows), tmp_path, columns=columns, speakers=speakers)
    assert _turns(ingested) == [("1", [("user", "你好"), ("assistant", "您好")])]
    with pytest.raises(InputError, match="no column 'nowhere' of ours"):
        _ingest(_csv(rows), tmp_path, columns={"k": "nowhere"})


def test_bad_rows_of_a_csv_cost_only_themselves(tmp_path: Path) -> None:
    content = '会话ID,角色,内容\n1,客户,"两行\n的话"\n1,客服,好\n2,客户\n\n2,外星人,嗯\n2,客户,你好\n2,客服,"没有结束的引号\n3,客户,在吗\n3,客服,在\n'
    ingested = _ingest(content.encode(), tmp_path)
    assert _turns(ingested) == [
        ("1", [("user", "两行\n的话"), ("assistant", "好")]), ("2", [("user", "你好")]), ("3", [("user", "在吗"), ("assistant", "在")]),
    ]  # fmt: skip
    quarantine = _quarantine(ingested)
    assert list(quarantine) == [5, 7, 9]
    assert "2 cells" in quarantine[5]
    assert "外星人" in quarantine[7]
    assert "quoted" in quarantine[9]
    assert any("lack these turns" in warning for warning in ingested.warnings)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_file_cut_off_keeps_what_came_before(pack: Any, tmp_path: Path) -> None:
    records = [
        {"id": f"c{i}", "messages": [{"role": "user", "content": str(i) * 50 + str(hash(str(i)))}]} for i in range(3000)
    ]
    whole = pack(_lines(records))
    ingested = _ingest(whole[: len(whole) // 2], tmp_path)
    assert ingested.quarantined == 1
    assert 100 < ingested.conversations < 3000
    assert [name for name, _ in _turns(ingested)] == [f"c{i}" for i in range(ingested.conversations)]
    ((line, reason),) = _quarantine(ingested).items()
    assert line == ingested.conversations + 1
    assert "cut off" in reason


def test_a_wrong_checksum_is_told_and_keeps_what_came_before(tmp_path: Path) -> None:
    records = [
        {"id": f"c{i}", "messages": [{"role": "user", "content": f"{i * 7919 % 10007} {i}" * 9}]} for i in range(9000)
    ]
    packed = bytearray(gzip.compress(_lines(records) + b"\n"))
    packed[-8:] = bytes(8)
    ingested = _ingest(bytes(packed), tmp_path)
    assert ingested.quarantined == 1
    assert ingested.conversations == 9000
    assert "corrupt" in next(iter(_quarantine(ingested).values()))


def test_a_line_in_another_encoding_is_quarantined(tmp_path: Path) -> None:
    lines = [json.dumps(c, ensure_ascii=False) for c in CONVERSATIONS]
    mixed = b"\n".join([*(line.encode() for line in lines[:3]), lines[3].encode("gb18030"), lines[4].encode()])
    ingested = _ingest(mixed, tmp_path)
    assert ingested.detection["encoding"] == "utf-8"
    assert [name for name, _ in _turns(ingested)] == ["c0", "c1", "c2", "c4"]
    assert "UTF-8" in _quarantine(ingested)[4]
    other = b"\n".join([*(line.encode("gb18030") for line in lines[:3]), lines[3].encode(), lines[4].encode("gb18030")])
    ingested = _ingest(other, tmp_path)
    assert ingested.detection["encoding"] == "gb18030"
    assert _turns(ingested) == [EXPECTED[i] for i in (0, 1, 2, 4)]
    assert "UTF-8" in _quarantine(ingested)[4]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"), (b"\n \n", "empty"), (b"\xef\xbb\xbf", "empty"), (bytes(range(256)) * 64, "binary"),
        (b"PK\x03\x04" + bytes(range(256)), "zip"), (b"PAR1" + b"x" * 100, "Parquet"), (gzip.compress(b"")[:12], "cut off"),
        (gzip.compress(b"PAR1" + b"x" * 100), "Parquet"), (gzip.compress(b'{"a":"%s"}\n' % (b"x" * 100_000) * 1000), "expands"),
        (zstandard.compress(b'{"a":"%s"}\n' % (b"x" * 100_000) * 1000), "expands"),
        (b"a,a,b\n1,2,3\n", "same name"), (_parquet([{"x": 1, "y": 2}]), "'x', 'y'"), (_csv([{"x": 1, "y": 2}]), "'x', 'y'"),
        ("你好,世界\n再见,世界\n".encode(), "no column"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else f"{len(value)} bytes",
)  # fmt: skip
def test_what_cannot_be_read_at_all_is_refused_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        _ingest(content, tmp_path)


def test_a_parquet_bomb_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(
        pa.table({"会话ID": ["1"] * 2000, "角色": ["客户"] * 2000, "内容": column}), sink, compression="zstd"
    )
    assert len(sink.getvalue()) < 100_000
    with pytest.raises(InputError, match="expands"):
        _ingest(sink.getvalue(), tmp_path)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"foo": 1}, "messages"), ([1, 2], "array"), ("text", "string"), (3, ""), ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"), ({"messages": ["hi"]}, "messages[0]"),
        ({"conversations": [{"from": "human", "value": 3}]}, "conversations[0].value"),
        ({"conversations": [{"from": "alien", "value": "hi"}]}, "alien"),
        ({"instruction": 3, "output": "x"}, "instruction"), ({"instruction": "", "output": ""}, "empty"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "history[0]"),
        ({"messages": [{"role": "user", "content": "x", "weight": 2}]}, "weight"),
        ({"messages": [{"role": "user", "content": "x"}], "user": [1]}, "user"),
        ({"messages": [{"role": "user", "content": "x"}], "id": {"a": 1}}, "id"),
    ],
)  # fmt: skip
def test_a_bad_record_is_quarantined_with_field_and_line(record: object, reason: str, tmp_path: Path) -> None:
    content = _lines(CONVERSATIONS[:1]) + b"\n\n" + json.dumps(record).encode() + b"\n" + _lines(CONVERSATIONS[1:2])
    for packed in (
        content,
        b"[" + content.replace(b"\n\n", b",\n\n").replace(b'\n{"id": "c1"', b',\n{"id": "c1"') + b"]",
    ):
        ingested = _ingest(packed, tmp_path)
        assert [name for name, _ in _turns(ingested)] == ["c0", "c1"]
        assert list(_quarantine(ingested)) == [3]
        assert reason in _quarantine(ingested)[3]


def test_alpaca_keeps_history_system_and_missing_sides(tmp_path: Path) -> None:
    records = [
        {"instruction": "三", "input": "补充", "output": "四", "history": [["一", "二"]], "system": "礼貌"},
        {"instruction": "", "output": "在吗", "history": [["", "您好，我是客服"], ["你好", ""]]},
    ]
    assert [turns for _, turns in _turns(_ingest(_lines(records), tmp_path))] == [
        [("system", "礼貌"), ("user", "一"), ("assistant", "二"), ("user", "三\n补充"), ("assistant", "四")],
        [("assistant", "您好，我是客服"), ("user", "你好"), ("assistant", "在吗")],
    ]


def test_repeated_ids_get_a_suffix_and_turns_of_a_megabyte_are_kept(tmp_path: Path) -> None:
    long = {
        "id": "c0",
        "messages": [{"role": "user", "content": "长" * 350_000}, {"role": "assistant", "content": "好"}],
    }
    ingested = _ingest(_lines([*CONVERSATIONS, long]), tmp_path)
    assert [name for name, _ in _turns(ingested)][-1] == f"c0#{'ab' * 4}:6"
    assert len(_turns(ingested)[-1][1][0][1]) == 350_000
    assert any("repeated" in warning for warning in ingested.warnings)


def test_raw_segments_for_one_run_are_those_that_are_kept(tmp_path: Path) -> None:
    repeated = _lines([*CONVERSATIONS, CONVERSATIONS[0], *CONVERSATIONS[1:]])
    (tmp_path / "kept").mkdir()
    kept = _ingest(repeated, tmp_path / "kept", segment_bytes=300)
    made = _ingest(repeated, tmp_path, segment_bytes=300, suffix=ARROW)
    frames = [scan_raw(segment.path).collect() for segment in made.segments]
    assert len(frames) > 1
    assert all(segment.path.suffix == ARROW for segment in made.segments)
    assert [frame.rows() for frame in frames] == [pl.read_parquet(segment.path).rows() for segment in kept.segments]
    assert made.warnings == kept.warnings != ()


@pytest.mark.parametrize(
    ("purpose", "content", "expected", "bad"),
    [
        ("labels", _lines([{"text": "好", "label": 0}, {"text": "坏", "label": "1"}, {"text": "", "label": 1}, {"text": "x"}]),
         [{"line": 1, "text": "好", "label": "0"}, {"line": 2, "text": "坏", "label": "1"}], [3, 4]),
        ("labels", "内容,标签\n好,正常\n坏,不良\n".encode("gb18030"),
         [{"line": 2, "text": "好", "label": "正常"}, {"line": 3, "text": "坏", "label": "不良"}], []),
        ("labels", _parquet([{"text": "好", "label": 1.0}]), [{"line": 1, "text": "好", "label": "1"}], []),
        ("pairs", _lines([{"spoken": "嗯好", "written": "好"}, {"spoken": "好"}]), [{"line": 1, "spoken": "嗯好", "written": "好"}], [2]),
        ("preferences", _lines([{"prompt": "问", "chosen": "好", "rejected": "坏"},
                                {"messages": [{"role": "user", "content": "问"}], "chosen": {"role": "assistant", "content": "好"}, "rejected": "好"}]),
         [{"line": 1, "messages": [{"role": "user", "content": "问", "weight": None}], "chosen": "好", "rejected": "坏"}], [2]),
        ("lexicon", "# 说明\n坏词\n\n六合彩 \n".encode(), [{"line": 2, "word": "坏词", "allowed": False}, {"line": 4, "word": "六合彩", "allowed": False}], []),
        ("lexicon", "word,allow\n坏词,\n,坏词典\n".encode(), [{"line": 2, "word": "坏词", "allowed": False}, {"line": 3, "word": "坏词典", "allowed": True}], []),
    ],
)  # fmt: skip
def test_files_of_other_purposes(
    purpose: str, content: bytes, expected: list[Any], bad: list[int], tmp_path: Path
) -> None:
    ingested = _ingest(content, tmp_path, purpose=purpose)
    assert _rows(ingested) == expected
    assert list(_quarantine(ingested)) == bad
    assert (ingested.format, ingested.conversations) == (purpose, len(expected))


JSON_VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4), max_size=5),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
)
def test_an_array_cut_anywhere_gives_its_elements(records: list[Any], indent: int | None, size: int) -> None:
    content = json.dumps(records, indent=indent, ensure_ascii=False).encode()
    pieces = (content[i : i + size] for i in range(0, len(content), size))
    found = list(read_elements(pieces))
    assert [json.loads(element) for _, _, element in found] == records
    for line, offset, element in found:
        assert content[offset:].startswith(element)
        assert content.count(b"\n", 0, offset) == line - 1


def test_an_element_that_is_too_long_costs_only_itself(tmp_path: Path) -> None:
    huge = json.dumps({"messages": [{"role": "user", "content": 'x\\"' * 4_000_000}]})
    ingested = _ingest(
        b"[" + _lines(CONVERSATIONS[:1]) + b",\n" + huge.encode() + b",\n" + _lines(CONVERSATIONS[1:2]) + b"]", tmp_path
    )
    assert [name for name, _ in _turns(ingested)] == ["c0", "c1"]
    assert "16 MiB" in _quarantine(ingested)[2]


def test_an_array_that_ends_too_early_is_said_so(tmp_path: Path) -> None:
    ingested = _ingest(json.dumps(CONVERSATIONS, indent=1).encode()[:-30], tmp_path)
    assert ingested.conversations == 4
    assert ingested.quarantined == 1
    assert "not complete" in next(iter(_quarantine(ingested).values()))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2024-03-01 10:05:00", "2024-03-01T10:05:00"), ("2024/3/1 10:05", "2024-03-01T10:05:00"), (1709287500, "2024-03-01T10:05:00"),
        (1709287500000, "2024-03-01T10:05:00"), ("1709287500", "2024-03-01T10:05:00"), ("20240301100500", "2024-03-01T10:05:00"),
        ("2024年3月1日 10时05分", "2024-03-01T10:05:00"), ("2024-03-01T18:05:00+08:00", "2024-03-01T10:05:00"), ("昨天", None), ("", None), (True, None),
    ],
)  # fmt: skip
def test_times_are_read_in_the_ways_people_write_them(written: object, expected: str | None) -> None:
    seconds = seconds_of(written)
    assert (None if seconds is None else iso_time(seconds)) == expected


@pytest.mark.shared_data
def test_real_files_lose_nothing(shared_data: Path, tmp_path: Path) -> None:
    for path in [*sorted(shared_data.glob("dialog.*")), *sorted(shared_data.glob("spoken_raw.*"))]:
        ingested = ingest(path, tmp_path / path.name, sha256="ab" * 32)
        assert ingested.conversations + ingested.quarantined == len(path.read_bytes().splitlines()), path.name
    speakers = {f"speaker{i}": "user" if i == 1 else "assistant" for i in range(1, 40)}
    ingested = ingest(
        shared_data / "spoken_raw.vcsum.dev.jsonl", tmp_path / "mapped", sha256="ab" * 32, speakers=speakers
    )
    assert (ingested.conversations, ingested.quarantined) == (135, 0)
    for name, purpose in (
        ("cls.cold.dev", "labels"),
        ("s2w.cs2w.val", "pairs"),
        ("pref.llamafactory_dpo_zh", "preferences"),
    ):
        path = shared_data / f"{name}.jsonl"
        ingested = ingest(path, tmp_path / name, sha256="ab" * 32, purpose=purpose)
        assert ingested.conversations == len(path.read_bytes().splitlines()) - ingested.quarantined
        assert ingested.quarantined < 20
