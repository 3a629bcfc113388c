"""JSON lines read many at a time are what they are read one by one."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.formats.conversations import parse_record
from curation.formats.encodings import RecordError
from curation.formats.json_lines import Cut, find_cuts, read_cut
from curation.formats.messages import Record
from curation.formats.readers import read_json_lines, read_value
from curation.formats.roles import Speakers
from curation.formats.streams import read_chunks
from curation.segments import RAW_SCHEMA

SPEAKERS = {"店小二": "assistant", "旁白": "ignore"}
STRINGS = st.one_of(
    st.sampled_from(["", " ", "user", "客服", "店小二", "旁白", "谁", '"user":{', "\\", "\x00", "\u2028", "😀", "a" * 600, "\r\n"]),
    st.text(max_size=5),
)  # fmt: skip
SCALARS = st.one_of(STRINGS, st.integers(-(10**20), 10**20), st.floats(allow_nan=True), st.booleans(), st.none())
OBJECTS = st.dictionaries(STRINGS, st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=3)
ROLES = st.one_of(st.sampled_from(["user", "assistant", "human", "gpt", "店小二", "旁白"]), SCALARS)
WEIGHTS = st.sampled_from([0, 1, None, 2, 1.0, True, "1"])


@pytest.fixture(autouse=True)
def _machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few lines are read one by one otherwise."""
    monkeypatch.setattr("curation.compiled.WORTHWHILE_BYTES", 0)


def _turns(speaker: str, text: str) -> st.SearchStrategy[Any]:
    turn = st.fixed_dictionaries({speaker: ROLES, text: SCALARS}, optional={"weight": WEIGHTS, "name": SCALARS})
    return st.one_of(st.lists(turn, max_size=3), SCALARS)


def _members(turns: str, speaker: str, text: str) -> st.SearchStrategy[dict[str, Any]]:
    about = {"user": st.one_of(OBJECTS, SCALARS), "meta": st.one_of(OBJECTS, SCALARS), "system": STRINGS}
    return st.fixed_dictionaries({turns: _turns(speaker, text)}, optional={"id": SCALARS, **about})


@st.composite
def _line(draw: st.DrawFn, form: str) -> bytes:
    members = {"messages": ("messages", "role", "content"), "sharegpt": ("conversations", "from", "value")}[form]
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"", b"  ", b"[]", b"\r", b'{"messages":[]}'])))
    record = draw(_members(*members))
    if draw(st.booleans()):
        record = dict(draw(st.permutations(list(record.items()))))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", "\t:")]))
    line = json.dumps(record, ensure_ascii=draw(st.booleans()), separators=separators)
    return line.encode("utf-8", "surrogatepass") + draw(st.sampled_from([b"", b"\r", b" "]))


def _read_one(form: str, speakers: Speakers) -> Any:
    def read(content: bytes) -> Record | str | None:
        if not content.strip():
            return None
        value = read_value(content, "utf-8")
        try:
            return str(value) if isinstance(value, RecordError) else parse_record(value, speakers, {}, form)
        except RecordError as error:
            return str(error)

    return read


def _one_by_one(path: Path, form: str) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]], Speakers]:
    speakers = Speakers(SPEAKERS)
    rows, bad = [], []
    for item in read_json_lines(read_chunks(path, None), "utf-8"):
        try:
            if isinstance(item.value, RecordError):
                raise item.value
            record = parse_record(item.value, speakers, {}, form)
        except RecordError as error:
            bad.append((item.number, str(error)))
        else:
            name = record.id if record.id is not None else f"n:{item.number}"
            rows.append((name, item.number, record.messages, record.user, record.meta))
    return rows, bad, speakers


@pytest.mark.parametrize("form", ["messages", "sharegpt"])
def test_many_at_a_time_is_one_by_one(form: str, tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"

    @given(st.lists(_line(form), min_size=1, max_size=6), st.integers(1, 400), st.booleans())
    def check(lines: list[bytes], cut_bytes: int, ends: bool) -> None:
        path.write_bytes(b"\n".join(lines) + (b"\n" if ends else b""))
        rows, bad, heard = _one_by_one(path, form)
        speakers = Speakers(SPEAKERS)
        cuts = find_cuts(path, cut_bytes)
        assert cuts is not None
        read = [read_cut(path, cut, form, speakers, "n", _read_one(form, speakers)) for cut in cuts]
        assert [row for part in read for row in part.rows.iter_rows()] == rows
        assert [line for part in read for line in part.bad] == bad
        assert all(part.rows.schema == RAW_SCHEMA for part in read)
        assert speakers.seen == heard.seen

    check()


def test_plain_lines_need_no_reader_of_records(tmp_path: Path) -> None:
    """What most files hold is read in columns: were it not, speed would be lost and no other test would tell."""
    path = tmp_path / "talks.jsonl"
    talk = [{"role": "user", "content": '\U0001f600 "嗯"\n'}, {"role": "assistant", "content": "好", "weight": 0}]
    records = [
        {"id": "a", "messages": talk},
        {"messages": talk, "id": 7},
        {"messages": talk, "user": {"age": 34, "city": "成都"}, "meta": {"time": "2026-11-01", "score": 0.5}},
    ]
    path.write_text("\n".join(json.dumps(record) for record in records), "utf-8")
    size = path.stat().st_size

    def refuse(content: bytes) -> None:
        raise AssertionError(content)

    found = read_cut(path, Cut(0, size, 1), "messages", Speakers(), "n", refuse)
    assert found.rows["id"].to_list() == ["a", "7", "n:3"]
    assert found.rows["meta"].to_list() == [None, None, '{"score":0.5,"time":"2026-11-01"}']
    assert found.rows["messages"].explode().struct.field("content").to_list() == ['\U0001f600 "嗯"\n', "好"] * 3


@pytest.mark.shared_data
def test_real_files_are_read_the_same(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("dialog.*.jsonl")):
        rows, bad, _ = _one_by_one(path, "messages")
        speakers = Speakers(SPEAKERS)
        cuts = find_cuts(path, 200_000) or []
        read = [read_cut(path, cut, "messages", speakers, "n", _read_one("messages", speakers)) for cut in cuts]
        assert pl.concat([part.rows for part in read]).rows() == rows
        assert [line for part in read for line in part.bad] == bad
