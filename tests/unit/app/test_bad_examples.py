"""Filters from bad examples, over HTTP: a clear error, or a warning with the figure."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_in_process import do_pending_work, service_in_process

RUDE, FINE = ("滚开", "你真蠢", "去死吧", "烦死了"), ("谢谢您", "请问几点开门", "好的", "再见")
THINGS = ("话费", "流量", "快递", "发票", "酒店", "机票", "积分", "套餐")
LABELS = [{"text": f"{word}，{n}号", "label": str(int(word in RUDE))} for word in RUDE + FINE for n in range(100)]
PAIRS = [
    {"spoken": f"呃我的哈{thing}{n}号坏了", "written": f"我的{thing}{n}号坏了"} for thing in THINGS for n in range(20)
]
TALKS = [[{"role": "user", "content": f"我的{thing}怎么样了？{n}号"}] for thing in THINGS for n in range(10)]
PREFERENCES = [{"messages": talk, "chosen": "您好，这就为您查询。", "rejected": "自己去查。"} for talk in TALKS]
TINY = {
    "model": {"scratch": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "vocab_size": 400}},
    "data": {"max_source_length": 64, "max_target_length": 32},
    "run": {"max_steps": 2, "nproc": 1},
}
KINDS: dict[str, dict[str, Any]] = {
    "classifiers": {"purpose": "labels", "hyperparameters": {"bucket": 5_000}},
    "smoothers": {"purpose": "pairs", "hyperparameters": {"epochs": 1, "units": 8, "inputs": 4}},
    "reward_models": {"purpose": "preferences", "base": "scratch:tiny", "trainer": TINY},
}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("service")
    with service_in_process({"TALKMILL_DATA_DIR": str(folder), "TALKMILL_BROKER_URL": "redis://127.0.0.1:1/0"}) as made:
        yield made


def learned(http: TestClient, route: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The filter once its training has ended."""
    body = dict(KINDS[route])
    content = "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()
    sent = {"file": ("records.jsonl", content)}
    uploaded = http.post("/v1/files", files=sent, data={"purpose": body.pop("purpose")})
    assert uploaded.status_code == 200, uploaded.text
    made = http.post(f"/v1/{route}", json={"name": "learned", "file": uploaded.json()["id"], **body})
    assert made.status_code == 202, made.text
    do_pending_work()
    found: dict[str, Any] = http.get(f"/v1/{route}/{made.json()['id']}").json()
    assert found["status"] in ("succeeded", "failed")
    return found


@pytest.mark.parametrize(
    ("route", "records", "told"),
    [
        ("classifiers", [one for one in LABELS if one["label"] == "1"], "at least two labels, not of 1"),
        ("classifiers", [LABELS[0], LABELS[1], LABELS[-1]], "each label needs at least 10"),
        ("classifiers", [{"sentence": "你好", "klass": "1"}] * 60, "at least two labels, not of 0"),
        ("classifiers", [{"text": one["text"], "label": f"{n}"} for n, one in enumerate(LABELS)], "at least 10"),
        ("classifiers", [*LABELS[:9], *({**one, "label": "0"} for one in LABELS[:9])], "not of 0"),
        ("smoothers", PAIRS[:3], "at least 50 different pairs, not 3"),
        ("smoothers", [{"a": "呃好", "b": "好"}] * 60, "at least 50 different pairs, not 0"),
        ("smoothers", [{**one, "written": one["spoken"]} for one in PAIRS], "right columns"),
        ("smoothers", [{"spoken": one["written"], "written": one["spoken"]} for one in PAIRS], "right way round"),
        ("reward_models", PREFERENCES[:3], "at least 50 different pairs, not 3"),
        ("reward_models", [{"prompt": "你好", "answer": "您好"}] * 60, "no pair to learn from"),
        ("reward_models", [{**one, "rejected": one["chosen"]} for one in PREFERENCES], "no pair to learn from"),
    ],
)  # fmt: skip
def test_what_teaches_nothing_is_told(http: TestClient, route: str, records: list[dict[str, Any]], told: str) -> None:
    found = learned(http, route, records)
    assert found["status"] == "failed"
    assert told in found["error"]


@pytest.mark.parametrize("route", KINDS)
def test_a_file_for_something_else_is_refused(http: TestClient, route: str) -> None:
    sent = {"file": ("words.txt", "你好".encode())}
    file = http.post("/v1/files", files=sent, data={"purpose": "lexicon"}).json()["id"]
    body = {name: value for name, value in KINDS[route].items() if name != "purpose"}
    refused = http.post(f"/v1/{route}", json={"name": "learned", "file": file, **body})
    assert refused.status_code == 422
    assert (refused.json()["error"]["param"], refused.json()["error"]["code"]) == ("file", "wrong_purpose")


def test_wrong_and_contradictory_labels_are_told_with_their_figures(http: TestClient) -> None:
    clean = learned(http, "classifiers", LABELS)
    assert clean["warnings"] == []
    rng = random.Random(1)
    noisy = [{**one, "label": str(1 - int(one["label"]))} if rng.random() < 0.1 else one for one in LABELS]
    found = learned(http, "classifiers", [*noisy, {**noisy[0], "label": str(1 - int(noisy[0]["label"]))}])
    assert any("1 texts have more than one label; 1 left out" in warning for warning in found["warnings"])
    share = found["metrics"]["contradicted"]
    assert 0.05 <= share <= 0.2
    assert any(f"of {share:.1%} of the texts held out" in warning for warning in found["warnings"])


def test_wrong_and_contradictory_pairs_are_told_with_their_figures(http: TestClient) -> None:
    rows = [{**one, "written": "今天天气很不错，我们去公园"} if n % 10 == 0 else one for n, one in enumerate(PAIRS)]
    found = learned(http, "smoothers", [*rows, {**PAIRS[1], "written": "坏了"}])
    assert found["status"] == "succeeded", found["error"]
    assert any("1 pairs write down otherwise" in warning for warning in found["warnings"])
    assert any("the written text of 9.9% of the pairs" in warning for warning in found["warnings"])


def test_wrong_and_contradictory_preferences_are_told_with_their_figures(http: TestClient) -> None:
    turned = [{**one, "chosen": one["rejected"], "rejected": one["chosen"]} for one in PREFERENCES[:8]]
    found = learned(http, "reward_models", [*PREFERENCES, *turned])
    assert found["status"] == "succeeded", found["error"]
    assert any("8 pairs of replies were judged both ways" in warning for warning in found["warnings"])
    assert any("pairs are held out: too few" in warning for warning in found["warnings"])
    assert 0 <= found["metrics"]["contradicted"] <= 1
