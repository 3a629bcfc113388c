"""An experiment on lengths, from the request to its report: a longer history wins where the answer lies early in it.

What is asked for at the end of a dialogue was said either in its first turn, which only the longer source reaches, or
in its last one, which both reach. By construction the first kind must differ and the second must not.
"""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_in_process import do_pending_work, service_in_process

from worker.experimenting import lead_experiments_on

CODES = "ABCDEFGH"
SHORT, LONG = 64, 128
TRAINER = {
    "model": {"scratch": {"hidden_size": 32, "num_layers": 1, "num_heads": 4, "num_kv_heads": 4, "vocab_size": 300}},
    "data": {"max_target_length": 16},
    "batch": {"conversations": 16},
    "optim": {"peak_lr": 1e-2},
    "run": {"max_steps": 110, "nproc": 1, "precision": "fp32"},
    "recovery": {"grad_norm_limit": 1e9, "grad_norm_spread_limit": 1e9},
    "checkpoint": {"every_steps": 1000},
}  # fmt: skip


def dialogue(number: int, filler: int, *, controls: bool = False, spoken: str = "") -> dict[str, Any]:
    """Three turns of `filler` signs; the code that is asked for fills the first one, or the last one of a control."""
    rng = random.Random(number)
    code, is_control = rng.choice(CODES), controls or number % 2 == 1
    said = [" ".join(rng.choices("0123456789", k=filler)) for _ in range(3)]
    said[-1 if is_control else 0] = " ".join(code * filler)
    messages = []
    for place, text in enumerate(said):
        messages.append({"role": "user", "content": f"{spoken}{text}"})
        is_last = place == len(said) - 1
        messages.append(
            {"role": "assistant", "content": code if is_last else "好", **({} if is_last else {"weight": 0})}
        )
    return {"id": f"t{number}", "messages": messages, "user": {"gender": "男" if is_control else "女"}}


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    env = {"TALKMILL_DATA_DIR": str(tmp_path), "TALKMILL_BROKER_URL": "redis://127.0.0.1:1/0"}
    with service_in_process({**env, "OMP_WAIT_POLICY": "PASSIVE"}) as client:
        yield client


def version_of(http: TestClient, count: int, filler: int, **kind: Any) -> str:
    lines = "".join(json.dumps(dialogue(number, filler, **kind), ensure_ascii=False) + "\n" for number in range(count))
    file = http.post("/v1/files", files={"file": ("made.jsonl", lines)}, data={"purpose": "conversations"}).json()
    dataset = http.post("/v1/datasets", json={"name": "made"}).json()
    recipe = {"operators": [{"kind": "structure_dialogue"}, {"kind": "tag_users"}]}
    body = {"files": [file["id"]], "recipe": recipe}
    version = http.post(f"/v1/datasets/{dataset['id']}/versions", json=body).json()
    do_pending_work()
    assert http.get(f"/v1/versions/{version['id']}").json()["status"] == "succeeded"
    return str(version["id"])


def run(http: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    """Starts an experiment and does all its work; returns it as it ended."""
    made = http.post("/v1/experiments", json=body)
    assert made.status_code == 202, made.text
    path = f"/v1/experiments/{made.json()['id']}"
    assert http.get(f"{path}/report").status_code == 409
    for _ in range(8):
        do_pending_work()
        lead_experiments_on()
        found: dict[str, Any] = http.get(path).json()
        if found["status"] in ("succeeded", "failed"):
            break
    return found


def lengths(version: str, **evaluation: Any) -> dict[str, Any]:
    job = {"model": "scratch:tiny", "training_file": version, "seed": 3, "trainer": TRAINER}
    grid = {"trainer.data.max_source_length": [SHORT, LONG]}
    return {"name": "lengths", "job": job, "grid": grid, "evaluation": {"holdout": 0.2, **evaluation}}


def read(http: TestClient, experiment: dict[str, Any]) -> dict[str, Any]:
    """The report of an experiment all of whose runs succeeded."""
    assert experiment["status"] == "succeeded", experiment
    assert {one["status"] for one in experiment["runs"]} == {"succeeded"}
    report: dict[str, Any] = http.get(f"/v1/experiments/{experiment['id']}/report").json()
    return report


def check_equal(report: dict[str, Any]) -> None:
    """All runs of equal epochs learned as many tokens of replies in as many steps."""
    of_epochs = [run for run in report["runs"] if run["budget"] == "epochs"]
    assert len({(run["steps"], run["target_tokens"]) for run in of_epochs}) == 1


def test_a_longer_history_wins_where_the_answer_lies_early(http: TestClient) -> None:
    version = version_of(http, 300, 16)
    ended = run(http, lengths(version, bleu_samples=40, review_samples=6, by=["gender"]))
    report = read(http, ended)
    check_equal(report)
    short, long = report["runs"]
    assert short["tokens"] < long["tokens"]
    (one,) = report["sets"]
    assert one["conversations"] == one["targets"] == 60, "a fifth of 300, whatever the lengths"
    (pair,) = one["comparisons"]
    assert pair["loss"]["beyond_noise"] and pair["loss"]["interval"][1] < -0.3
    assert one["longer_history"] == {"than": SHORT, "targets": 60, "share": 1.0, "compared": True, "tested": True}
    losses = {run["ordinal"]: run["loss_by_source_length"] for run in one["runs"]}
    assert losses[1][str(LONG)] == long["validation_loss"] == pytest.approx(long["curve"][-1][1], abs=0.01)
    assert losses[1][str(SHORT)] > losses[1][str(LONG)] + 0.5, "what it learned is of no use without the history"
    early, control = ([run["loss"] for run in value["runs"]] for value in one["by"]["gender"])
    assert early[0] - early[1] > 3 * abs(control[0] - control[1])
    said = [sample["generated"]["1"] == sample["reference"] for sample in report["samples"]]
    assert sum(said) > len(said) / 2
    assert any("max_source_length 128 has a lower loss" in sentence for sentence in report["conclusions"])
    assert any("these runs, not of the settings" in sentence for sentence in report["conclusions"])
    _check_pages(http, ended["id"])
    _judge(http, ended)


def _check_pages(http: TestClient, experiment: str) -> None:
    """The page stands alone and has its plots; both pages tell what the JSON says."""
    page, text = (http.get(f"/v1/experiments/{experiment}/report", params={"format": f}) for f in ("html", "md"))
    assert page.headers["content-type"].startswith("text/html")
    assert text.headers["content-type"].startswith("text/markdown")
    assert page.text.count("<svg") >= 3
    assert "<script" not in page.text and "http" not in page.text, "nothing to run, nothing to fetch"
    assert "beyond noise" in page.text and "beyond noise" in text.text
    rows = http.get(f"/v1/experiments/{experiment}/samples", params={"limit": 30}).json()
    assert len(rows["data"]) == 30 and rows["has_more"]
    rest = http.get(f"/v1/experiments/{experiment}/samples", params={"after": 30, "limit": 30}).json()
    assert len(rest["data"]) == 10 and not rest["has_more"]


def _judge(http: TestClient, experiment: dict[str, Any]) -> None:
    """People compare the first and the last run, blind; what they say is in the report."""
    review = f"/v1/reviews/{experiment['review']}"
    while not (pair := http.get(f"{review}/next", params={"rater": "r"}).json())["done"]:
        answer = {"item": pair["item"], "rater": "r", "choice": "a" if pair["a"] >= pair["b"] else "b"}
        assert http.post(f"{review}/judgements", json=answer).status_code in (200, 201)
    report = http.get(f"/v1/experiments/{experiment['id']}/report").json()
    assert report["human"]["pairs"] == 6
    rates = [run["human_win_rate"] for run in report["runs"]]
    assert sum(rates) == pytest.approx(1)
    assert report["conclusions"][-1].startswith("Where people preferred a side")


AT_LENGTH = pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "long", reason="minutes: `make test-long`")


@AT_LENGTH
def test_512_against_1024_tokens(http: TestClient) -> None:
    version = version_of(http, 300, 230)
    body = lengths(version, bleu_samples=40, by=["gender"], equal_tokens=True)
    body["grid"] = {"trainer.data.max_source_length": [512, 1024]}
    report = read(http, run(http, body))
    check_equal(report)
    (one,) = report["sets"]
    equal_epochs, equal_tokens = one["comparisons"]
    assert equal_epochs["loss"]["interval"][1] < -0.3
    assert equal_tokens["loss"]["interval"][1] < -0.3, "more steps do not replace the history"


@AT_LENGTH
def test_an_answer_in_the_last_300_tokens_needs_no_longer_history(http: TestClient) -> None:
    """Three seeds of each length, so that it is said of the lengths, not of the runs."""
    version = version_of(http, 300, 230, controls=True)
    body = lengths(version, bleu_samples=0)
    body["grid"] = {"trainer.data.max_source_length": [512, 1024], "seed": [1, 2, 3]}
    report = read(http, run(http, body))
    (pair,) = report["sets"][0]["comparisons"]
    assert not pair["loss"]["beyond_noise"] and abs(pair["loss"]["difference"]) < 0.1
    assert pair["loss"]["seeds"] == 3
    assert any("it speaks of the settings" in sentence for sentence in report["conclusions"])


@AT_LENGTH
def test_what_curation_is_worth(http: TestClient) -> None:
    """Two versions are made and learned, and scored on the raw turns and on what each recipe makes of them."""
    version = version_of(http, 120, 8, spoken="嗯嗯，那个，我我我想说")
    trainer = {
        **TRAINER,
        "data": {"max_source_length": 192, "max_target_length": 16},
        "run": {**TRAINER["run"], "max_steps": 40},
    }
    job = {"model": "scratch:tiny", "training_file": version, "seed": 3, "trainer": trainer}
    grid = {"recipe.operators.smooth_disfluency": [True, False]}
    body = {"name": "worth", "job": job, "grid": grid, "evaluation": {"holdout": 0.2, "bleu_samples": 10}}
    experiment = run(http, body)
    report = read(http, experiment)
    assert [one["name"] for one in report["sets"]] == ["raw", "smooth_disfluency on", "smooth_disfluency off"]
    assert len({run["version"] for run in report["runs"]}) == 2
    assert len({one["conversations"] for one in report["sets"]}) == 1, "the same held-out conversations"
    assert report["unit"] == "character", "tokenizers from scratch are of their versions"
    assert {sample["set"] for sample in report["samples"]} == {"raw"}
