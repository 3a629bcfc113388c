"""Classifiers on the real stack: from an upload to a filtered version, the same whoever trained it and how often."""

import csv
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
from running_stack import RunningStack

from curation.classifier_training import train_classifier
from curation.recipe import parse_recipe

RUDE = ["滚开", "你真蠢", "去死吧", "shut up"]
FINE = ["谢谢", "请问几点开门", "好的", "thank you"]
SMALL = {"bucket": 5_000}


def _records(num: int = 40) -> list[tuple[str, str]]:
    return [
        (f"{word}，{n}号", label) for label, words in (("1", RUDE), ("0", FINE)) for word in words for n in range(num)
    ]


def _csv(records: list[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([("text", "label"), *records, ("没有标签", "")])
    return text.getvalue().encode()


def _jsonl(records: list[tuple[str, str]]) -> bytes:
    return "\n".join(
        json.dumps({"label": int(label), "text": text}, ensure_ascii=False) for text, label in records
    ).encode()


def _uploaded(stack: RunningStack, name: str, content: bytes) -> str:
    answer = stack.http.post("/files", files={"file": (name, content)}, data={"purpose": "labels"})
    assert answer.status_code == 200, answer.text
    file: str = answer.json()["id"]
    return file


def _classifier(stack: RunningStack, file: str, **body: Any) -> str:
    answer = stack.http.post("/classifiers", json={"name": "rude", "file": file, "hyperparameters": SMALL, **body})
    assert answer.status_code == 202, answer.text
    made: str = answer.json()["id"]
    return made


def test_a_version_is_filtered_by_a_classifier_from_uploaded_labels(stack: RunningStack, tmp_path: Path) -> None:
    file = _uploaded(stack, "labels.csv", _csv(_records()))
    one = stack.ended(f"/classifiers/{_classifier(stack, file)}")
    other = stack.ended(
        f"/classifiers/{_classifier(stack, _uploaded(stack, 'labels.jsonl', _jsonl(_records()[::-1])))}"
    )
    here = train_classifier(_records(), tmp_path / "rude", hyperparameters=SMALL)
    assert one["status"] == "succeeded", one["error"]
    assert one["digest"] == other["digest"] == here["digest"]
    assert one["metrics"] == json.loads(json.dumps(here["metrics"]))
    answer = stack.http.post(f"/classifiers/{one['id']}/predict", json={"texts": ["滚开，1号", "谢谢，2号"] * 5_000})
    assert [row["label"] for row in answer.json()["predictions"]] == ["1", "0"] * 5_000

    talk = [
        {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]}
        for user, reply in (("请问几点开门，1号", "好的，2号"), ("你真蠢，3号", "谢谢，4号"))
    ]
    conversations = stack.upload("talk.jsonl", "\n".join(map(json.dumps, talk)).encode())["id"]
    versions = [
        stack.version(
            conversations, recipe={"operators": [{"kind": "classify_text", "classifier": name, "threshold": 0.5}]}
        )
        for name in (one["id"], other["id"])
    ]
    assert [version["status"] for version in versions] == ["succeeded"] * 2, versions[0]["error"]
    assert versions[0]["digest"] == versions[1]["digest"]
    assert versions[0]["recipe_fingerprint"] == versions[1]["recipe_fingerprint"]
    assert versions[0]["counts"]["by_operator"]["classify_text"]["codes"]["1"] == 1
    trace = stack.get(f"/versions/{versions[0]['id']}/trace", operator="classify_text", code="1")["data"]
    assert [(row["before"], row["action"]) for row in trace] == [("你真蠢，3号", "drop_turn")]
    assert 0.5 <= trace[0]["score"] <= 1
    refused = stack.http.delete(f"/files/{file}")
    assert refused.status_code == 409
    assert one["id"] in refused.text


def _training(stack: RunningStack) -> psutil.Process:
    """The process that trains, once it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in stack.family():
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if "worker.learning" in command and "--" not in command:
                return process
        time.sleep(0.02)
    raise AssertionError("no training process")


def test_a_worker_killed_in_a_training_changes_nothing(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path / "stack", env={"TALKMILL_LEASE_S": "3"})
    made = _classifier(stack, _uploaded(stack, "labels.jsonl", _jsonl(_records())))
    child = _training(stack)  # seen while it still loads: a second and more before it could end
    worker = child.parent()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert psutil.wait_procs([child], timeout=10)[1] == [], "the training goes with its worker"
    found = stack.ended(f"/classifiers/{made}", 300)
    assert found["status"] == "succeeded", found["error"]
    assert found["digest"] == train_classifier(_records(), tmp_path / "here", hyperparameters=SMALL)["digest"]
    assert stack.stop() == []


def test_the_default_recipe_brings_texts_to_one_form(stack: RunningStack) -> None:
    talk = {
        "messages": [{"role": "user", "content": "ＨＩ！！！"}, {"role": "assistant", "content": "您好&nbsp;<br>请讲"}]
    }
    version = stack.version(stack.upload("talk.jsonl", json.dumps(talk).encode())["id"])
    assert [step["kind"] for step in version["recipe"]["operators"]] == [
        step["kind"] for step in parse_recipe(None).resolved["operators"]
    ]
    kept = stack.get(f"/versions/{version['id']}/conversations")["data"]
    assert [message["content"] for message in kept[0]["messages"]] == ["HI！", "您好\n请讲"]
