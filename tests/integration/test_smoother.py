"""Smoothers on the real stack: from uploaded pairs to a version whose turns they smoothed."""

import json

from running_stack import RunningStack

THINGS = ["手机", "快递", "套餐", "发票", "订单", "酒店", "会员", "流量", "积分", "空调"]
SPOKEN = ["我这个哈{}坏了", "{}哈怎么还没到", "帮我哈查一下{}", "{}能不能哈退"]
"""With a filler that the rules do not know."""
SMALL = {"epochs": 12, "units": 16, "inputs": 16}


def _pairs() -> list[dict[str, str]]:
    texts = [text.format(f"{thing}{also}") for text in SPOKEN for thing in THINGS for also in ("", "号", "单", "费")]
    return [{"spoken": f"呃{text}", "written": text.replace("哈", "")} for text in texts]


def test_a_version_is_smoothed_by_a_smoother_from_uploaded_pairs(stack: RunningStack) -> None:
    content = "\n".join(json.dumps(pair, ensure_ascii=False) for pair in _pairs()).encode()
    uploaded = stack.http.post("/files", files={"file": ("pairs.jsonl", content)}, data={"purpose": "pairs"})
    file = uploaded.json()["id"]
    body = {"name": "ha", "file": file, "hyperparameters": SMALL}
    assert stack.http.post("/smoothers", json={**body, "hyperparameters": {"units": 3}}).status_code == 422
    made = stack.http.post("/smoothers", json=body)
    assert made.status_code == 202, made.text
    smoother = stack.ended(f"/smoothers/{made.json()['id']}")
    assert smoother["status"] == "succeeded", smoother["error"]
    metrics = smoother["metrics"]
    assert metrics["f05"] > metrics["rules_alone"]["f05"]
    assert {"exact_match", "precision", "recall"} <= set(metrics)

    answer = stack.http.post(f"/smoothers/{smoother['id']}/predict", json={"texts": ["呃我的哈快递单坏了", "好的"]})
    first, second = answer.json()["predictions"]
    assert (first["smoothed"], second["smoothed"]) == ("我的快递单坏了", "好的")
    assert first["edits"][0]["code"] == "filler"

    talk = {"messages": [{"role": "user", "content": "呃我的哈快递单坏了"}, {"role": "assistant", "content": "好的"}]}
    conversations = stack.upload("talk.jsonl", json.dumps(talk).encode())["id"]
    recipe = {"operators": [{"kind": "smooth_disfluency", "smoother": smoother["id"]}]}
    version = stack.version(conversations, recipe=recipe)
    assert version["status"] == "succeeded", version["error"]
    rows = stack.get(f"/versions/{version['id']}/conversations")["data"]
    assert rows[0]["messages"][0]["content"] == "我的快递单坏了"
    assert stack.http.delete(f"/files/{file}").status_code == 409, "the smoother was made of it"
    assert stack.get(f"/smoothers/{smoother['id']}")["used_by"] == [version["id"]]
    assert stack.http.delete(f"/smoothers/{smoother['id']}").status_code == 409
    unknown = {"operators": [{"kind": "smooth_disfluency", "smoother": "smo-" + "0" * 24}]}
    refused = stack.http.post("/recipes/preview", json={"recipe": unknown, "conversations": []})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"].endswith("smoother")
