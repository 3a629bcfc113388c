"""Files that come in parts: in any order, checked, resumed, given up."""

import hashlib
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.db import reading, writing
from app.models import Upload, UploadPart, Work

CONTENT = b'{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}\n' * 40_000
"""3.4 MB, which is more than the store reads at once."""


class Sender:
    """Uploads as a client does."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self.client, self.headers = client, headers

    def post(self, path: str, **sent: Any) -> Any:
        return self.client.post(f"/v1/uploads{path}", headers=self.headers, **sent)

    def begin(self, size: int = len(CONTENT), **more: Any) -> str:
        body = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": size, "mime_type": "application/jsonl", **more}
        answer = self.post("", json=body)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["object"], answer.json()["status"]) == ("upload", "pending")
        return str(answer.json()["id"])

    def part(self, upload: str, data: bytes, **form: str) -> Any:
        return self.post(f"/{upload}/parts", files={"data": ("blob", data)}, data=form)


@pytest.fixture
def sender(client: TestClient, everything: dict[str, str]) -> Sender:
    return Sender(client, everything)


def test_parts_in_any_order_become_the_file(sender: Sender) -> None:
    upload = sender.begin()
    cuts = [0, 10, 1_500_000, 1_500_001, len(CONTENT)]
    pieces = [CONTENT[start:end] for start, end in itertools.pairwise(cuts)]
    order = list(range(len(pieces)))
    random.Random(1).shuffle(order)
    ids = {n: sender.part(upload, pieces[n], sha256=hashlib.sha256(pieces[n]).hexdigest()).json()["id"] for n in order}
    again = sender.part(upload, pieces[0]).json()["id"]  # sent twice: the other one is simply not named
    seen = sender.client.get(f"/v1/uploads/{upload}", headers=sender.headers).json()
    assert [part["id"] for part in seen["parts"]] == [ids[n] for n in order] + [again]
    assert seen["bytes_received"] == len(CONTENT) + 10

    sums = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha256")}
    body = {"part_ids": [ids[n] for n in sorted(ids)], **sums}
    done = sender.post(f"/{upload}/complete", json=body).json()
    assert (done["status"], done["file"]["bytes"], done["file"]["sha256"]) == (
        "completed",
        len(CONTENT),
        sums["sha256"],
    )
    file = done["file"]["id"]
    assert sender.client.get(f"/v1/files/{file}/content", headers=sender.headers).content == CONTENT
    assert sender.post(f"/{upload}/complete", json=body).json()["file"]["id"] == file
    with reading() as session:
        assert session.scalars(select(Work.kind).where(Work.subject == file)).all() == ["ingest"]
        assert session.scalars(select(UploadPart)).all() == []
    assert sender.part(upload, b"more").status_code == 409
    assert sender.post(f"/{upload}/cancel").status_code == 409


def test_what_is_not_what_was_announced_is_refused(sender: Sender) -> None:
    upload = sender.begin(6)
    bad = sender.part(upload, b"abc", sha256="0" * 64)
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "checksum_mismatch")
    assert sender.client.get(f"/v1/uploads/{upload}", headers=sender.headers).json()["parts"] == []
    one, two = (sender.part(upload, data).json()["id"] for data in (b"abc", b"def"))
    other = sender.part(sender.begin(3), b"abc").json()["id"]
    for ids, more, param in (
        ([one], {}, "part_ids"), ([one, one], {}, "part_ids"), ([one, other], {}, "part_ids[1]"),
        ([one, two], {"md5": "0" * 32}, "md5"), ([one, two], {"sha256": "0" * 64}, "sha256"),
    ):  # fmt: skip
        refused = sender.post(f"/{upload}/complete", json={"part_ids": ids, **more})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert sender.post(f"/{upload}/complete", json={"part_ids": [two, one]}).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"bytes": 0}, 422, "bytes"),
        ({"bytes": 2**50}, 400, "bytes"),
        ({"bytes": "7"}, 422, "bytes"),
        ({"purpose": "assistants"}, 422, "purpose"),
        ({"filename": "x" * 300}, 400, "filename"),
        ({"filename": "a\x00b"}, 422, "filename"),
        ({"speakers": '{"a":"boss"}'}, 422, "speakers"),
    ],
)
def test_what_cannot_become_a_file_is_not_begun(
    sender: Sender, change: dict[str, Any], status: int, param: str
) -> None:
    body = {"filename": "a.jsonl", "purpose": "conversations", "bytes": 10, "mime_type": "text/plain", **change}
    answer = sender.post("", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("filename", ["../../etc/passwd", "C:\\Users\\x\\passwd", "/passwd", "..\\passwd"])
def test_a_path_in_a_name_is_left_off(sender: Sender, filename: str) -> None:
    upload = sender.begin(3, filename=filename)
    assert sender.client.get(f"/v1/uploads/{upload}", headers=sender.headers).json()["filename"] == "passwd"


def test_an_upload_is_given_up_or_expires_and_its_parts_go(sender: Sender) -> None:
    for end, status in (("cancel", "cancelled"), ("expire", "expired")):
        upload = sender.begin(3)
        part = sender.part(upload, b"abc").json()["id"]
        if end == "cancel":
            assert sender.post(f"/{upload}/cancel").json()["status"] == "cancelled"
            assert sender.post(f"/{upload}/cancel").status_code == 200
        else:
            with writing() as session:
                session.execute(update(Upload).where(Upload.id == upload).values(expires_at=time.time() - 1))
        assert sender.client.get(f"/v1/uploads/{upload}", headers=sender.headers).json()["status"] == status
        assert sender.part(upload, b"abc").status_code == 409
        assert sender.post(f"/{upload}/complete", json={"part_ids": [part]}).status_code == 409
    sender.begin(3)
    with reading() as session:
        assert session.scalars(select(UploadPart)).all() == []


def test_a_part_and_all_parts_together_are_bounded(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = sender.begin(3)
    monkeypatch.setattr("app.uploads.service.MAX_PART_BYTES", 5)
    assert sender.part(upload, b"").status_code == 400
    assert sender.part(upload, b"abcdefgh").status_code == 200
    assert sender.part(upload, b"a").status_code == 400


def test_scopes(sender: Sender, key: Callable[..., dict[str, str]]) -> None:
    upload = sender.begin(3)
    assert sender.client.get(f"/v1/uploads/{upload}", headers=key("read")).status_code == 200
    assert sender.client.post(f"/v1/uploads/{upload}/cancel", headers=key("read")).status_code == 403
    assert sender.client.get("/v1/uploads/upload-" + "0" * 24, headers=key("read")).status_code == 404
