"""Classifiers over HTTP, on a real database and store; the worker's part is done in this process, its child included."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from fastapi.testclient import TestClient
from service_in_process import do_pending_work, service_in_process
from sqlalchemy import select

from app.db import reading, writing
from app.models import File, LearnedFilter, Outbox, RawSegment, Work, new_id
from app.queue import add_work
from app.settings import get_settings
from app.store import get_store
from worker.tasks import do

SMALL = {"bucket": 5_000}
RUDE = ["滚开", "你真蠢", "去死吧", "shut up"]
FINE = ["谢谢", "请问几点开门", "好的", "thank you"]
RECORDS = [
    (f"{word}，{n}号", label) for label, words in (("1", RUDE), ("0", FINE)) for word in words for n in range(40)
]


class Service:
    """The application, and its workers' part done in this process."""

    def __init__(self, tmp_path: Path, client: TestClient) -> None:
        self.tmp_path, self.http = tmp_path, client

    def labels(self, records: list[tuple[str, str]], *, status: str = "processed", purpose: str = "labels") -> str:
        """A file of labels whose ingest has got as far as `status`."""
        path = self.tmp_path / "labels.parquet"
        rows = [(line, text, label) for line, (text, label) in enumerate(records, 1)]
        pl.DataFrame(rows, ["line", "text", "label"], orient="row").write_parquet(path)
        blob = get_store().put_file(path)
        with writing() as session:
            file = File(
                id=new_id("file"), purpose=purpose, filename="labels.jsonl", bytes=blob.bytes, sha256=blob.sha256,
                status=status, counts={}, warnings=[],
            )  # fmt: skip
            session.add(file)
            session.flush()
            session.add(
                RawSegment(
                    file_id=file.id, ordinal=0, sha256=blob.sha256, bytes=blob.bytes, conversations=len(rows), turns=0
                )
            )
        return file.id

    def create(self, file: str, **body: Any) -> dict[str, Any]:
        answer = self.http.post(
            "/v1/classifiers", json={"name": "rude", "file": file, "hyperparameters": SMALL, **body}
        )
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def get(self, classifier: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/v1/classifiers/{classifier}").json()
        return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    env = {"TALKMILL_DATA_DIR": str(tmp_path), "TALKMILL_BROKER_URL": "redis://127.0.0.1:1/0"}
    with service_in_process(env) as client:
        yield Service(tmp_path, client)


def _work_of(subject: str) -> str:
    with reading() as session:
        return session.scalars(select(Work.id).where(Work.subject == subject)).one()


def _child() -> psutil.Process:
    """The training process, once it trains."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process().children():
            if "worker.learning" in child.cmdline() and "--" not in child.cmdline():
                return child
        time.sleep(0.02)
    raise AssertionError("no training process")


def test_a_classifier_is_trained_measured_and_asked(service: Service) -> None:
    made = service.create(service.labels(RECORDS), holdout=0.2)
    assert (made["object"], made["status"], made["id"][:4]) == ("classifier", "queued", "clf-")
    assert service.http.post(f"/v1/classifiers/{made['id']}/predict", json={"texts": []}).status_code == 409
    do_pending_work()
    found = service.get(made["id"])
    assert (found["status"], found["error"]) == ("succeeded", None)
    assert found["digest"].startswith("sha256:")
    assert found["metrics"]["accuracy"] > 0.95
    assert found["metrics"]["per_label"]["1"]["support"] == 32
    assert found["metrics"]["counts"]["holdout"] == 64
    assert found["hyperparameters"]["bucket"] == 5_000
    answer = service.http.post(
        f"/v1/classifiers/{made['id']}/predict", json={"texts": ["滚开吧", "", "谢谢您", "滚开吧"]}
    )
    labels = [one["label"] for one in answer.json()["predictions"]]
    assert (labels[0], labels[2], labels[3]) == ("1", "0", "1")
    etag = service.http.get(f"/v1/classifiers/{made['id']}").headers["etag"]
    assert service.http.get(f"/v1/classifiers/{made['id']}", headers={"if-none-match": etag}).status_code == 304
    listed = service.http.get("/v1/classifiers").json()
    assert [row["id"] for row in listed["data"]] == [made["id"]]


def test_the_same_labels_give_the_same_artefact_even_after_a_crash(service: Service) -> None:
    file = service.labels(RECORDS)
    crashed, calm = service.create(file)["id"], service.create(file)["id"]
    killer = threading.Thread(target=lambda: os.kill(_child().pid, signal.SIGKILL))
    killer.start()
    do(_work_of(crashed))
    killer.join()
    assert service.get(crashed)["status"] == "running", "the work went back and is done again"
    do_pending_work()
    one, other = service.get(crashed), service.get(calm)
    assert one["status"] == other["status"] == "succeeded"
    assert one["digest"] == other["digest"]
    with reading() as session:
        assert len({row.artefact_sha256 for row in session.scalars(select(LearnedFilter))}) == 1
    assert list(get_settings().work_dir.iterdir()) == []


def test_a_cancelled_training_ends_at_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKMILL_LEASE_S", "1.2")
    get_settings.cache_clear()
    long = {"epoch": 100, "dim": 300, "bucket": 200_000}
    made = service.create(
        service.labels([(f"{text}{n}", label) for text, label in RECORDS for n in range(50)]), hyperparameters=long
    )
    working = threading.Thread(target=do, args=[_work_of(made["id"])])
    working.start()
    child = _child()
    assert service.http.post(f"/v1/classifiers/{made['id']}/cancel").json()["status"] == "cancelled"
    working.join(15)
    assert not working.is_alive()
    assert not child.is_running()
    assert service.get(made["id"])["status"] == "cancelled"
    assert service.http.post(f"/v1/classifiers/{made['id']}/cancel").json()["status"] == "cancelled"


def test_labels_that_teach_nothing_fail_with_the_reason(service: Service) -> None:
    made = service.create(service.labels([("好", "1"), ("坏", "0")] * 50))
    do_pending_work()
    found = service.get(made["id"])
    assert found["status"] == "failed"
    assert "at least 10" in found["error"]
    assert service.http.post(f"/v1/classifiers/{made['id']}/cancel").status_code == 409


def test_a_file_still_processed_is_waited_for(service: Service) -> None:
    file = service.labels(RECORDS, status="processing")
    made = service.create(file)
    do(_work_of(made["id"]))
    assert service.get(made["id"])["status"] == "queued"
    with writing() as session:
        session.get_one(File, file).status = "processed"
    do_pending_work()
    assert service.get(made["id"])["status"] == "succeeded"


def test_a_file_that_cannot_be_read_fails_the_classifier(service: Service) -> None:
    file = service.labels(RECORDS, status="processing")
    made = service.create(file)
    with writing() as session:
        row = session.get_one(File, file)
        row.status, row.status_details = "error", "it is empty"
    do_pending_work()
    assert "it is empty" in service.get(made["id"])["error"]


def test_a_wrong_field_is_named(service: Service) -> None:
    good, other = service.labels(RECORDS), service.labels(RECORDS, purpose="conversations")
    for body, param in (
        ({"file": other}, "file"),
        ({"file": "file-" + "0" * 24}, "file"),
        ({"file": "labels.jsonl"}, "file"),
        ({"hyperparameters": {"epoch": 0}}, "hyperparameters"),
        ({"holdout": 1}, "holdout"),
        ({"name": ""}, "name"),
    ):
        answer = service.http.post("/v1/classifiers", json={"name": "rude", "file": good, **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    url = "/v1/classifiers/clf-" + "0" * 24
    assert service.http.get(url).status_code == service.http.post(f"{url}/cancel").status_code == 404
    made = service.create(good)
    do_pending_work()
    url = f"/v1/classifiers/{made['id']}/predict"
    assert service.http.post(url, json={"texts": ["a"] * 10_001}).json()["error"]["param"] == "texts"
    assert service.http.post(url, content=b'{"texts":["\\ud800"]}').status_code == 422


def test_a_version_is_filtered_by_a_classifier(service: Service) -> None:
    classifier = service.create(service.labels(RECORDS))["id"]
    talk = b'{"messages":[{"role":"user","content":"\xe6\xbb\x9a\xe5\xbc\x80"},{"role":"assistant","content":"\xe5\xa5\xbd\xe7\x9a\x84"}]}'
    file = service.http.post("/v1/files", files={"file": ("a.jsonl", talk)}, data={"purpose": "conversations"}).json()[
        "id"
    ]
    dataset = service.http.post("/v1/datasets", json={"name": "calls"}).json()["id"]
    recipe = {"operators": [{"kind": "classify_text", "classifier": classifier, "action": "drop_conversation"}]}
    url = f"/v1/datasets/{dataset}/versions"
    early = service.http.post(url, json={"files": [file], "recipe": recipe})
    assert (early.status_code, early.json()["error"]["param"]) == (422, "recipe.operators[0].classifier")
    do_pending_work()
    made = service.http.post(url, json={"files": [file], "recipe": recipe})
    assert made.status_code == 202, made.text
    do_pending_work()
    version = service.http.get(f"/v1/versions/{made.json()['id']}").json()
    assert version["status"] == "succeeded", version["error"]
    assert version["recipe"]["operators"][0]["labels"] == ["1"]
    assert version["counts"]["by_operator"]["classify_text"]["codes"] == {"1": 1}
    assert version["counts"]["conversations_dropped"] == 1


def _version(service: Service, said: list[str], recipe: dict[str, Any]) -> dict[str, Any]:
    """A finished version of one conversation for each text."""
    lines = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "好的，1号"}]}
        for text in said
    ]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    upload = {"files": {"file": ("a.jsonl", content.encode())}, "data": {"purpose": "conversations"}}
    file = service.http.post("/v1/files", **upload).json()["id"]  # type: ignore[arg-type]
    dataset = service.http.post("/v1/datasets", json={"name": "calls"}).json()["id"]
    url = f"/v1/datasets/{dataset}/versions"
    do_pending_work()
    made = service.http.post(url, json={"files": [file], "recipe": recipe}).json()
    do_pending_work()
    version: dict[str, Any] = service.http.get(f"/v1/versions/{made['id']}").json()
    assert version["status"] == "succeeded", version["error"]
    return version


def test_what_it_is_least_sure_of_is_labelled_and_teaches_the_next_one(service: Service) -> None:
    first = service.create(service.labels(RECORDS))["id"]
    do_pending_work()
    said = ["滚开，1号", "谢谢，2号", "完全没见过的说法", "完全没见过的说法", "你真蠢，3号"]
    version = _version(service, said, {"operators": []})
    url = f"/v1/classifiers/{first}"
    found = service.http.get(f"{url}/uncertain", params={"version": version["id"], "limit": 2}).json()["data"]
    assert found[0]["text"] == "完全没见过的说法"
    assert len(found) == 2
    assert found[0]["margin"] <= found[1]["margin"]
    assert service.http.get(f"{url}/uncertain", params={"version": "ver-" + "0" * 24}).status_code == 404

    labels = [{"text": "完全没见过的说法", "label": "1"}, {"text": "谢谢，2号", "label": "1"}]
    made = service.http.post(f"{url}/labels", json={"labels": labels})
    assert made.status_code == 202, made.text
    do_pending_work()
    second = service.get(made.json()["id"])
    assert (second["status"], second["parent"], second["labels_added"]) == ("succeeded", first, 2)
    counts = [service.get(name)["metrics"]["counts"] for name in (first, second["id"])]
    assert counts[1]["records"] == counts[0]["records"] + 1
    assert counts[1]["conflicts"] == 0, "the new label of 谢谢，2号 stands for the old one"
    third = service.http.post(f"/v1/classifiers/{second['id']}/labels", json={"labels": labels[:1], "name": "third"})
    assert (third.json()["labels_added"], third.json()["name"]) == (2, "third")
    assert service.http.post(f"{url}/labels", json={"labels": []}).status_code == 422


def test_a_classifier_in_use_is_not_deleted(service: Service) -> None:
    classifier, other = service.create(service.labels(RECORDS))["id"], service.create(service.labels(RECORDS))["id"]
    assert service.http.delete(f"/v1/classifiers/{classifier}").status_code == 409, "it is still being trained"
    do_pending_work()
    recipe = {"operators": [{"kind": "classify_text", "classifier": classifier}]}
    version = _version(service, ["谢谢，2号"], recipe)
    assert service.get(classifier)["used_by"] == [version["id"]]
    refused = service.http.delete(f"/v1/classifiers/{classifier}")
    assert (refused.status_code, version["id"] in refused.json()["detail"]) == (409, True)
    assert service.get(other)["used_by"] == []
    assert service.http.delete(f"/v1/classifiers/{other}").json()["deleted"]
    assert service.http.get(f"/v1/classifiers/{other}").status_code == 404


def test_an_ingest_that_ends_announces_the_training_again(service: Service) -> None:
    talk = b'{"text":"a","label":"b"}'
    file = service.labels(RECORDS, status="uploaded")
    blob = get_store().put_file(_written(service.tmp_path, talk))
    with writing() as session:
        session.get_one(File, file).sha256 = blob.sha256
        add_work(session, "ingest", file)
    made = service.create(file)
    do(_work_of(made["id"]))
    assert service.get(made["id"])["status"] == "queued"
    told = _announced(_work_of(made["id"]))
    with reading() as session:
        do(session.scalars(select(Work.id).where(Work.kind == "ingest")).one())
    assert _announced(_work_of(made["id"])) == told + 1
    do_pending_work()
    assert service.get(made["id"])["status"] == "failed", "one label is no label"


def _announced(work_id: str) -> int:
    with reading() as session:
        return len(session.scalars(select(Outbox).where(Outbox.work_id == work_id)).all())


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "labels.jsonl"
    path.write_bytes(content)
    return path
