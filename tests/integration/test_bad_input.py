"""Bad input over HTTP: a clear 4xx or a quarantine row; never a 500, never stuck."""

import json

import pytest
from running_stack import RunningStack

GOOD = '{"messages":[{"role":"user","content":"你好"},{"role":"assistant","content":"您好"}]}'.encode()


def _quarantine(stack: RunningStack, file_id: str) -> dict[int, str]:
    rows = stack.get(f"/files/{file_id}/quarantine")["data"]
    return {row["line"]: row["reason"] for row in rows}


def test_an_empty_file_is_refused(stack: RunningStack) -> None:
    response = stack.http.post("/files", files={"file": ("empty.jsonl", b"")}, data={"purpose": "conversations"})
    assert 400 <= response.status_code < 500
    assert "empty" in response.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [bytes(range(256)) * 64, b"\x89PNG\r\n\x1a\n" + bytes(1000), b"PK\x03\x04" + bytes(range(256))],
    ids=["bytes", "png", "zip"],
)
def test_a_binary_file_ends_with_a_reason(stack: RunningStack, content: bytes) -> None:
    file = stack.upload("binary.jsonl", content)
    assert file["status"] == "error"
    assert file["status_details"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"foo": 1}', "messages"),
        (b"[1, 2]", "object"),
        (b"{not json", "JSON"),
        (b'{"messages": []}', "messages"),
        (b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', "UTF-8"),
        (b'{"messages":[{"role":"alien","content":"hi"}]}', "alien"),
        (b'{"messages":[{"role":"user"}]}', "content"),
        (b"[" * 100_000, ""),
    ],
)
def test_a_bad_record_is_quarantined_with_line_and_reason(stack: RunningStack, line: bytes, reason: str) -> None:
    file = stack.upload("mixed.jsonl", GOOD + b"\n" + line + b"\n" + GOOD)
    assert file["status"] == "processed"
    assert file["counts"] == {"conversations": 2, "turns": 4, "quarantined": 1}
    quarantine = _quarantine(stack, file["id"])
    assert list(quarantine) == [2]
    assert reason in quarantine[2]


def test_a_line_of_50_mb_costs_only_itself(stack: RunningStack) -> None:
    line = b'{"messages":[{"role":"user","content":"' + b"x" * 50_000_000 + b'"}]}'
    file = stack.upload("long.jsonl", GOOD + b"\n" + line + b"\n" + GOOD)
    assert file["counts"] == {"conversations": 2, "turns": 4, "quarantined": 1}
    assert list(_quarantine(stack, file["id"])) == [2]


def test_a_file_of_bad_records_only_is_processed_and_its_version_keeps_nothing(stack: RunningStack) -> None:
    file = stack.upload("bad.jsonl", b'{"foo":1}\n' * 3)
    assert file["status"] == "processed"
    assert file["counts"]["quarantined"] == 3
    version = stack.version(file["id"])
    assert version["status"] == "succeeded"
    assert version["counts"]["conversations_in"] == 0
    assert version["warnings"]


def test_a_version_of_an_unreadable_file_fails_with_the_reason(stack: RunningStack) -> None:
    file = stack.upload("binary.jsonl", bytes(range(256)) * 64)
    version = stack.version(file["id"])
    assert version["status"] == "failed"
    assert file["id"] in version["error"]


def test_speakers_can_be_mapped_or_ignored(stack: RunningStack) -> None:
    line = {
        "messages": [
            {"role": "speaker1", "content": "你好"},
            {"role": "客服", "content": "您好"},
            {"role": "旁白", "content": "（音乐）"},
        ]
    }
    mapping = json.dumps({"speaker1": "user", "旁白": "ignore"})
    file = stack.upload("named.jsonl", json.dumps(line).encode(), speakers=mapping)
    assert file["counts"] == {"conversations": 1, "turns": 2, "quarantined": 0}
