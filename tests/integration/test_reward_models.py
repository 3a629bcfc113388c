"""Reward models on the real stack: from uploaded preferences to scores that are kept."""

import contextlib
import json
import random
from typing import Any

import psutil
import pytest
from running_stack import RunningStack

# One of the two kinds of stack is enough, and on real servers more can go wrong.
pytestmark = pytest.mark.parametrize("stack", ["servers"], indirect=True, scope="session")
THINGS = ("话费", "流量", "快递", "发票", "酒店", "机票", "积分", "套餐")
POLITE = ("您好，{}这就为您查询，请稍等。", "好的，{}已经为您办理。", "请您放心，{}今天到。")
RUDE = ("{}自己去查，别烦我。", "没空管你的{}，烦死了。", "随便，{}不关我的事。")
TRAINER = {
    "model": {"scratch": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 500}},
    "data": {"max_source_length": 64, "max_target_length": 63},
    "batch": {"tokens": 2560},
    "optim": {"peak_lr": 3e-3},
    "run": {"max_steps": 20, "nproc": 1},
    "checkpoint": {"every_steps": 20},
}


def preferences(count: int = 200) -> bytes:
    rng = random.Random(3)
    lines = ["{"]
    for number in range(count):
        thing = rng.choice(THINGS)
        replies = (rng.choice(POLITE).format(thing), rng.choice(RUDE).format(thing))
        asked = [{"role": "user", "content": f"我的{thing}怎么样了？{number}"}]
        lines.append(json.dumps({"messages": asked, "chosen": replies[0], "rejected": replies[1]}, ensure_ascii=False))
    return "\n".join(lines).encode()


def talk(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]}


def commands(stack: RunningStack) -> list[str]:
    """The command lines of the stack's processes, but for those that end just now."""
    found = []
    for process in stack.family():
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found


@pytest.fixture(scope="module")
def file(stack: RunningStack) -> str:
    data = {"purpose": "preferences"}
    answer = stack.http.post("/files", files={"file": ("preferences.jsonl", preferences())}, data=data)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def model(stack: RunningStack, file: str) -> dict[str, Any]:
    body = {"name": "polite", "file": file, "base": "scratch:tiny", "holdout": 0.2, "trainer": TRAINER}
    answer = stack.http.post("/reward_models", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["id"].startswith("rm-")
    early = stack.http.post(f"/reward_models/{answer.json()['id']}/score", json={"conversations": []})
    assert early.status_code == 409
    return stack.ended(f"/reward_models/{answer.json()['id']}")


def test_a_reward_model_is_trained_measured_and_listed(stack: RunningStack, model: dict[str, Any]) -> None:
    assert model["status"] == "succeeded", model["error"]
    assert model["digest"].startswith("sha256:")
    found = model["metrics"]
    assert found["pairs"] == 40
    assert found["accuracy"] > 0.9
    assert found["accuracy_interval"][0] <= found["accuracy"] <= found["accuracy_interval"][1]
    assert 0 <= found["longer_wins"] <= 1
    assert -1 <= found["length_correlation"] <= 1
    assert any("40 pairs" in warning for warning in model["warnings"])
    assert [row["id"] for row in stack.get("/reward_models")["data"]] == [model["id"]]
    answer = stack.http.get(f"/reward_models/{model['id']}")
    again = stack.http.get(f"/reward_models/{model['id']}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_scores_order_replies_and_are_the_same_when_asked_again(stack: RunningStack, model: dict[str, Any]) -> None:
    asked, polite, rude = "我的快递怎么样了？", "好的，快递已经为您办理。", "没空管你的快递，烦死了。"
    conversations = [
        talk(asked, polite), talk(asked, rude), talk(asked, polite, asked, rude), talk(asked), talk(asked, polite),
    ]  # fmt: skip
    path = f"/reward_models/{model['id']}/score"
    first = stack.http.post(path, json={"conversations": conversations})
    assert first.status_code == 200, first.text
    good, bad, mixed, none, good_again = first.json()["scores"]
    assert good > bad + 1
    assert mixed <= good + 1e-3, "its first reply is the good one"
    assert none is None
    assert good_again == good
    assert stack.http.post(path, json={"conversations": conversations[::-1]}).json()["scores"][::-1] == [
        good, bad, mixed, none, good_again,
    ]  # fmt: skip


def test_a_version_leaves_out_the_lowest_by_its_own_scores(stack: RunningStack, model: dict[str, Any]) -> None:
    asked, polite, rude = "我的发票怎么样了？", "好的，发票已经为您办理。", "没空管你的发票，烦死了。"
    talks = [{"id": f"{number}", **talk(asked, rude if number % 4 == 0 else polite)} for number in range(12)]
    file = stack.upload("talks.jsonl", "\n".join(map(json.dumps, talks)).encode())["id"]
    step = {"kind": "score_reward", "reward_model": model["id"], "min_score": 0.25, "action": "drop_conversation"}
    versions = [
        stack.version(file, recipe={"operators": [{"kind": "structure_dialogue", "require_reply": reply}, step]})
        for reply in (True, False)
    ]
    for made in versions:
        assert made["status"] == "succeeded", made["error"]
        assert made["counts"]["by_operator"]["score_reward"]["codes"] == {"low_score": 3}
        gone = stack.get(f"/versions/{made['id']}/conversations", dropped=True)["data"]
        assert sorted(one["id"] for one in gone) == ["0", "4", "8"]
    assert versions[0]["digest"] == versions[1]["digest"]
    told = [stack.get(f"/versions/{made['id']}/trace", operator="score_reward")["data"] for made in versions]
    assert [row["score"] for row in told[0]] == [row["score"] for row in told[1]]
    assert set(stack.get(f"/reward_models/{model['id']}")["used_by"]) == {made["id"] for made in versions}
    assert stack.http.delete(f"/reward_models/{model['id']}").status_code == 409


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"base": "nothing"}, "base"),
        ({"file": "file-" + "0" * 24}, "file"),
        ({"trainer": {"data": {"preferences": "/etc/passwd"}}}, "trainer.data.preferences"),
        ({"trainer": {"data": {"max_source_length": 1}}}, "trainer.data.max_source_length"),
        ({"trainer": {"objective": "reply"}}, "trainer.objective"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_name(
    stack: RunningStack, file: str, changes: dict[str, Any], param: str
) -> None:
    body = {"name": "polite", "file": file, "base": "scratch:tiny", **changes}
    answer = stack.http.post("/reward_models", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_training_is_cancelled_and_leaves_no_process(stack: RunningStack, file: str) -> None:
    trainer = {**TRAINER, "run": {"max_steps": 100_000, "nproc": 1}}
    body = {"name": "endless", "file": file, "base": "scratch:tiny", "trainer": trainer}
    made = stack.http.post("/reward_models", json=body).json()
    stack.wait_until(lambda: stack.get(f"/reward_models/{made['id']}")["status"] == "running", 60)
    answer = stack.http.post(f"/reward_models/{made['id']}/cancel")
    assert answer.json()["status"] == "cancelled"
    assert stack.http.delete(f"/reward_models/{made['id']}").json()["deleted"]
    assert stack.http.get(f"/reward_models/{made['id']}").status_code == 404
    stack.wait_until(lambda: not any(made["id"] in command for command in commands(stack)), 20)
