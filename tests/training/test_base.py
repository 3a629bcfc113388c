"""A registered base through the whole service: listed, trained by two ranks, exported, chatted with before and after."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_stack import RunningStack
from tiny_base import make_tiny_base

QUESTION = [{"role": "user", "content": "我想查一下我的话费"}]
STEPS = 12


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    running = RunningStack(tmp_path_factory.mktemp("stack"))
    base = make_tiny_base(tmp_path_factory.mktemp("bases") / "clerk")
    command = [sys.executable, "-m", "app.cli", "models", "add", str(base)]
    environment = {**os.environ, "TALKMILL_DATA_DIR": str(running.folder)}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    yield running
    assert running.stop() == []


@pytest.fixture(scope="module")
def version(stack: RunningStack, examples: Path) -> str:
    file = stack.upload("dialogues.jsonl", (examples / "dialogues.jsonl").read_bytes())
    made = stack.version(file["id"])
    assert made["status"] == "succeeded", made["error"]
    return str(made["id"])


@pytest.fixture(scope="module")
def job(stack: RunningStack, version: str) -> dict[str, Any]:
    trainer = {
        "data": {"max_source_length": 160, "max_target_length": 64},
        "run": {"max_steps": STEPS, "nproc": 2},
        "evaluate": {"bleu_samples": 0},
    }
    body = {
        "model": "clerk", "training_file": version, "trainer": trainer,
        "hyperparameters": {"learning_rate_multiplier": 20, "batch_size": 20},
    }  # fmt: skip
    response = stack.http.post("/fine_tuning/jobs", json=body)
    assert response.status_code == 200, response.text
    ended = stack.ended(f"/fine_tuning/jobs/{response.json()['id']}", 180)
    assert ended["status"] == "succeeded", ended["error"]
    return ended


def reply(stack: RunningStack, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": QUESTION, "max_tokens": 8, "temperature": 0}
    response = stack.http.post("/chat/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_the_base_learns_and_says_what_it_is(stack: RunningStack, job: dict[str, Any]) -> None:
    lines = stack.get(f"/fine_tuning/jobs/{job['id']}/metrics", points=100)["data"]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    assert job["model"] == "clerk"
    assert [check["ok"] for check in job["architecture"]] == [True] * 7
    resolved = job["trainer"]
    assert resolved["optim"]["peak_lr"] == pytest.approx(20 * 5e-5)
    assert "base" not in resolved["model"], "no path of this machine is told"
    mean = resolved["batch"]["tokens"] / resolved["batch"]["conversations"]
    assert 20 < mean < 224
    events = {event["message"]: event["data"] for event in stack.get(f"/fine_tuning/jobs/{job['id']}/events")["data"]}
    assert events["the template adds a system prompt of its own"] == {"system": "You are a clerk."}
    assert events["tokenizer ready"]["template"] == "own"


def test_the_exported_folder_opens_and_keeps_the_bases_template(
    stack: RunningStack, job: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for file in stack.get(f"/fine_tuning/jobs/{job['id']}/files")["data"]:
        content = stack.http.get(f"/fine_tuning/jobs/{job['id']}/files/{file['name']}").content
        (tmp_path / file["name"]).parent.mkdir(exist_ok=True)  # `best/` has a folder of its own
        (tmp_path / file["name"]).write_bytes(content)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in model.generation_config.eos_token_id
    assert tokenizer.eos_token_id == end
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    assert prompt.startswith("<|im_start|>system\nYou are a clerk.<|im_end|>\n<|im_start|>user\n")
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)["input_ids"]
    assert reply(stack, job["fine_tuned_model"])["usage"]["prompt_tokens"] == len(ids)


def test_the_base_and_the_first_checkpoint_answer_alike(stack: RunningStack, job: dict[str, Any]) -> None:
    before = reply(stack, "clerk")
    untrained = reply(stack, f"{job['fine_tuned_model']}:ckpt-step-0")
    assert before["choices"] == untrained["choices"]
    assert before["usage"] == untrained["usage"]
    assert reply(stack, job["fine_tuned_model"])["choices"] != before["choices"]


def test_a_row_longer_than_the_base_knows_fails_with_the_reason(stack: RunningStack, version: str) -> None:
    trainer = {"data": {"max_source_length": 256, "max_target_length": 64}}
    response = stack.http.post(
        "/fine_tuning/jobs", json={"model": "clerk", "training_file": version, "trainer": trainer}
    )
    ended = stack.ended(f"/fine_tuning/jobs/{response.json()['id']}", 60)
    assert ended["status"] == "failed"
    assert "max_source_length and max_target_length make 320 tokens" in ended["error"]["message"]
