"""Many requests at once, on both kinds of stack: none fails, none is lost, none is done twice."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import orjson
from running_stack import RunningStack

NUM_UPLOADS = {"sqlite": 50, "servers": 20}
NUM_TALKS = 3


def _talks(number: int) -> bytes:
    genders = ("female", "male")
    lines = [
        {
            "id": f"{number}-{talk}",
            "user": {"gender": genders[number % 2]},
            "messages": [
                {"role": "user", "content": f"你好，我要查第{number}单"},
                {"role": "assistant", "content": f"好的，第{number}单的第{talk}件"},
            ],
        }
        for talk in range(NUM_TALKS)
    ]
    return b"\n".join(orjson.dumps(line) for line in lines)


def _at_once(requests: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """All answers, in the requests' order; every request has a thread of its own."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return [sent.result() for sent in [pool.submit(request) for request in requests]]


def _num(stack: RunningStack) -> int:
    return NUM_UPLOADS["sqlite" if "broker" in stack.state["processes"] else "servers"]


def test_uploads_versions_and_statistics_at_once(stack: RunningStack) -> None:
    number = _num(stack)
    first = stack.version(stack.upload("first.jsonl", _talks(0))["id"])
    dataset = stack.http.post("/datasets", json={"name": "many"}).json()["id"]
    known = f"/versions/{first['id']}/tags/statistics"

    def upload(i: int) -> httpx.Response:
        files = {"file": (f"{i}.jsonl", _talks(i))}
        return stack.http.post("/files", files=files, data={"purpose": "conversations"})

    def create(_: int) -> httpx.Response:
        files = [file["id"] for file in stack.get("/files", limit=1)["data"]]
        return stack.http.post(f"/datasets/{dataset}/versions", json={"files": files})

    def count(_: int) -> httpx.Response:
        return stack.http.get(known, params={"by": "gender"})

    requests = [lambda i=i, do=do: do(i) for i in range(number) for do in (upload, create, count)]
    answers = _at_once(requests)
    problems = [answer.text for answer in answers if answer.status_code not in (200, 201, 202)]
    assert problems == []
    assert not [answer for answer in answers if b"locked" in answer.content]

    uploads, versions, counts = (answers[kind::3] for kind in range(3))
    assert {answer.json()["total"] for answer in counts} == {NUM_TALKS}
    files = [stack.ended(f"/files/{answer.json()['id']}") for answer in uploads]
    assert {file["counts"]["conversations"] for file in files} == {NUM_TALKS}
    assert len({file["id"] for file in files}) == number
    ended = [stack.ended(f"/versions/{answer.json()['id']}") for answer in versions]
    assert {(version["status"], version["counts"]["conversations_in"]) for version in ended} == {("succeeded", 3)}
    assert sorted(version["number"] for version in ended) == list(range(1, number + 1))

    whole = stack.version(*[file["id"] for file in files])
    assert whole["counts"]["conversations_in"] == number * NUM_TALKS
    by_gender = stack.get(f"/versions/{whole['id']}/tags/statistics", by="gender")["rows"]
    assert {row["gender"]: row["value"] for row in by_gender} == {
        "female": (number + 1) // 2 * NUM_TALKS,
        "male": number // 2 * NUM_TALKS,
    }


def test_one_key_at_once_is_one_resource(stack: RunningStack) -> None:
    number, headers = _num(stack), {"Idempotency-Key": "the same"}

    def create(name: str) -> httpx.Response:
        return stack.http.post("/datasets", json={"name": name}, headers=headers)

    answers = _at_once([lambda: create("once")] * number)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(dataset["name"] == "once" for dataset in _all(stack, "/datasets")) == 1
    assert create("another").status_code == 409


def test_many_keys_at_once_are_as_many_resources(stack: RunningStack) -> None:
    number = _num(stack)

    def create(i: int) -> httpx.Response:
        return stack.http.post("/datasets", json={"name": "each"}, headers={"Idempotency-Key": f"each-{i // 2}"})

    answers = _at_once([lambda i=i: create(i) for i in range(2 * number)])
    assert {answer.status_code for answer in answers} == {201}
    ids = [answer.json()["id"] for answer in answers]
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == number
    assert sum(dataset["name"] == "each" for dataset in _all(stack, "/datasets")) == number


def _all(stack: RunningStack, path: str) -> list[dict[str, Any]]:
    page = stack.get(path, limit=1000)
    assert not page["has_more"]
    found: list[dict[str, Any]] = page["data"]
    return found
