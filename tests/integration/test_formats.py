"""Files in, versions, exports out, and those in again: nothing is lost on the way."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from running_stack import RunningStack

EXPORTS = ("openai", "sharegpt", "alpaca", "parquet")
FORMATS = {"openai": "messages", "sharegpt": "sharegpt", "alpaca": "alpaca", "parquet": "messages"}
AS_IT_IS: dict[str, Any] = {"operators": []}
MEETINGS = json.dumps({f"speaker{i}": "user" if i % 2 else "assistant" for i in range(1, 60)})
Turns = dict[str, list[tuple[str, str]]]


def _export(stack: RunningStack, version: dict[str, Any], form: str) -> bytes:
    response = stack.http.get(f"/versions/{version['id']}/export", params={"format": form})
    assert response.status_code == 200, response.text
    return response.content


def _turns(stack: RunningStack, version: dict[str, Any], *, weights: bool) -> dict[str, list[Any]]:
    rows = map(json.loads, _export(stack, version, "openai").splitlines())
    return {
        row["id"]: [(m["role"], m["content"], *([m.get("weight")] if weights else [])) for m in row["messages"]]
        for row in rows
    }


def _goes_round(stack: RunningStack, name: str, content: bytes, records: int, **form: str) -> None:
    """Upload → version → each export → upload → version: counts add up and messages stay."""
    file = stack.upload(name, content, **form)
    assert file["status"] == "processed", file["status_details"]
    assert file["counts"]["conversations"] + file["counts"]["quarantined"] == records
    version = stack.version(file["id"])
    counts = version["counts"]
    assert version["status"] == "succeeded"
    assert counts["conversations_in"] == file["counts"]["conversations"]
    assert counts["conversations_in"] == counts["conversations_kept"] + counts["conversations_dropped"]
    for export in EXPORTS if counts["rows"] else ():
        again = stack.upload(f"{export}.gz", gzip.compress(_export(stack, version, export)))
        assert again["format"] == FORMATS[export], (name, export)
        assert again["counts"]["quarantined"] == 0, (name, export)
        copy = stack.version(again["id"], recipe=AS_IT_IS)
        weights = export != "alpaca"
        assert _turns(stack, copy, weights=weights) == _turns(stack, version, weights=weights), (name, export)


def test_the_examples_go_through_every_export_and_back(stack: RunningStack, examples: Path) -> None:
    content = (examples / "dialogues.jsonl").read_bytes()
    _goes_round(stack, "dialogues.jsonl", content, len(content.splitlines()))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    ["dialog.crosswoz.val", "dialog.kdconv.dev", "dialog.multidogo_customer_only.dev", "dialog.taskmaster4_data07",
     "dialog.abcd_sample", "spoken_raw.vcsum.dev"],
)  # fmt: skip
def test_real_files_go_through_every_export_and_back(stack: RunningStack, shared_data: Path, name: str) -> None:
    content = (shared_data / f"{name}.jsonl").read_bytes()
    _goes_round(stack, f"{name}.jsonl", content, len(content.splitlines()))


@pytest.mark.shared_data
def test_meetings_go_round_once_their_speakers_have_roles(stack: RunningStack, shared_data: Path) -> None:
    content = (shared_data / "spoken_raw.vcsum.dev.jsonl").read_bytes()
    _goes_round(stack, "meetings.jsonl", content, 135, speakers=MEETINGS)


@pytest.mark.shared_data
def test_every_real_file_of_conversations_is_tested(shared_data: Path) -> None:
    here = {
        mark.args[1][i]
        for mark in test_real_files_go_through_every_export_and_back.pytestmark
        if mark.name == "parametrize"
        for i in range(len(mark.args[1]))
    }  # type: ignore[attr-defined]
    assert here == {p.stem for pattern in ("dialog.*", "spoken_raw.*") for p in shared_data.glob(pattern)}


def test_a_chinese_table_tells_how_it_was_read(stack: RunningStack) -> None:
    table = (
        "会话ID,角色,内容,发送时间,性别\n1,客户,你好,2024-03-01 10:00,女\n1,客服,您好,2024-03-01 10:01,\n2,旁白,嗯,,\n"
    )
    file = stack.upload("会话.csv", table.encode("gb18030"))
    assert file["format"] == "flat_turns"
    assert file["detection"]["encoding"] == "gb18030"
    assert file["detection"]["columns"]["conversation_id"] == "会话ID"
    assert file["detection"]["speakers"] == {"客户": "user", "客服": "assistant", "旁白": None}
    assert file["counts"] == {"conversations": 1, "turns": 2, "quarantined": 1}
    assert stack.get(f"/files/{file['id']}/quarantine")["data"][0]["line"] == 4
    version = stack.version(file["id"])
    rows = stack.get(f"/versions/{version['id']}/tags/statistics", by=["gender"])["rows"]
    assert [(row["gender"], row["value"]) for row in rows] == [("female", 1)]


def test_columns_are_named_with_the_upload(stack: RunningStack) -> None:
    table = b"k,w,t\n1,speaker1,hi\n1,speaker2,hello\n"
    unnamed = stack.upload("table.csv", table)
    assert unnamed["status"] == "error"
    assert "'k', 'w', 't'" in unnamed["status_details"]
    columns = json.dumps({"k": "conversation_id", "w": "speaker", "t": "text"})
    speakers = json.dumps({"speaker1": "user", "speaker2": "assistant"})
    named = stack.upload("table.csv", table, columns=columns, speakers=speakers)
    assert named["counts"] == {"conversations": 1, "turns": 2, "quarantined": 0}
    for field, value in (
        ("columns", '{"k":"nothing"}'),
        ("speakers", '{"a":"user","a":"assistant"}'),
        ("speakers", "[]"),
    ):
        form = {"purpose": "conversations", field: value}
        refused = stack.http.post("/files", files={"file": ("table.csv", table)}, data=form)
        assert refused.status_code == 422
        assert refused.json()["error"]["param"] == field


def test_a_lexicon_comes_from_a_file(stack: RunningStack) -> None:
    file = stack.upload("words.txt", "# 词表\n王八蛋\n六合彩\n王八蛋\n".encode(), purpose="lexicon")
    assert file["counts"] == {"records": 3, "quarantined": 0}
    made = stack.http.post("/lexicons", json={"name": "from a file", "file": file["id"]})
    assert made.status_code == 201, made.text
    assert stack.get(f"/lexicons/{made.json()['id']}")["words"] == ["王八蛋", "六合彩"]
    dataset = stack.http.post("/datasets", json={"name": "words"}).json()
    refused = stack.http.post(f"/datasets/{dataset['id']}/versions", json={"files": [file["id"]]})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "files[0]"


def test_a_truncated_upload_keeps_what_can_be_read(stack: RunningStack) -> None:
    lines = [
        json.dumps(
            {
                "id": str(i),
                "messages": [
                    {"role": "user", "content": f"{i * 7919 % 997} {i}"},
                    {"role": "assistant", "content": "ok"},
                ],
            }
        )
        for i in range(2000)
    ]
    packed = gzip.compress("\n".join(lines).encode())
    file = stack.upload("cut.jsonl.gz", packed[: len(packed) // 2])
    assert file["status"] == "processed"
    assert file["counts"]["conversations"] > 100
    last = stack.get(f"/files/{file['id']}/quarantine")["data"][-1]
    assert last["line"] == file["counts"]["conversations"] + 1
    assert "cut off" in last["reason"]
