"""The `openai` client, as it comes, drives a fine-tune from an uploaded file to a streamed answer; and what is beyond
OpenAI: a run that is paused and goes on, its life as server-sent events, its best model, its checkpoints, chat that is
curated as the version was."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from running_stack import RunningStack
from tiny_base import make_tiny_base

STEPS = 40
LENGTHS = {"max_source_length": 128, "max_target_length": 64}
EVALUATE = {"bleu_samples": 4, "max_new_tokens": 8}
QUESTION = "嗯嗯，我我我想查一下话费，号码是13812345678。"


@pytest.fixture(scope="module")
def client(stack: RunningStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=str(stack.http.base_url), api_key=stack.authorization["Authorization"][7:]) as client:
        yield client


def _start(client: openai.OpenAI, examples: Path, steps: int = STEPS) -> Any:
    trainer = {
        "data": LENGTHS,
        "batch": {"tokens": 1024},
        "run": {"max_steps": steps, "nproc": 1},
        "evaluate": EVALUATE,
    }
    with (examples / "dialogues.jsonl").open("rb") as content:
        file = client.files.create(file=content, purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="scratch:tiny", training_file=file.id, seed=7, suffix="api", extra_body={"trainer": trainer}
    )


def _messages(stack: RunningStack, path: str, last_event_id: str | None = None) -> Iterator[tuple[str, str, Any]]:
    """(id, event, data) of each message of a stream."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with stack.http.stream("GET", f"{path}/stream", headers=headers, timeout=120) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}


def test_a_file_is_learned_paused_resumed_followed_and_asked(
    stack: RunningStack, client: openai.OpenAI, examples: Path
) -> None:
    job = _start(client, examples)
    assert job.status in ("validating_files", "queued", "running")
    assert job.training_file.startswith("file-")
    path = f"/fine_tuning/jobs/{job.id}"
    stack.wait_until(lambda: stack.get(path)["progress"]["step"] >= 2 or stack.get(path)["error"], 240)

    assert client.fine_tuning.jobs.pause(job.id).id == job.id
    stack.wait_until(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "paused", 60)
    assert stack.get(path)["finished_at"] is None
    done = stack.get(path)["progress"]["step"]
    assert 2 <= done < STEPS
    with pytest.raises(openai.ConflictError) as refused:
        client.fine_tuning.jobs.pause(job.id)
    assert refused.value.response.headers["x-should-retry"] == "false"
    client.fine_tuning.jobs.resume(job.id)

    told = list(_messages(stack, path))
    assert told[-1][1:] == ("end", {"status": "succeeded"})
    assert [data["step"] for _, name, data in told if name == "metrics"] == list(range(1, STEPS + 1))
    said = [data["message"] for _, name, data in told if name == "event"]
    assert [said.count(message) for message in ("Job paused.", "Job resumed.")] == [1, 1]
    assert any(message.startswith("resumed at step") for message in said)
    middle = len(told) // 2
    rest = list(_messages(stack, path, told[middle][0]))
    for name in ("metrics", "event", "end"):  # of what came meanwhile, events are told first
        assert [data for _, kind, data in rest if kind == name] == [d for _, k, d in told[middle + 1 :] if k == name]

    listed = client.fine_tuning.jobs.list_events(job.id, limit=100)
    assert {event.message for event in listed} == set(said)
    newest = next(iter(client.fine_tuning.jobs.checkpoints.list(job.id)))
    assert newest.step_number == STEPS
    ended = client.fine_tuning.jobs.retrieve(job.id)
    assert said[0].startswith("Waiting for ver-")
    assert said[1:3] == ["Job queued.", "Job started."]
    assert said[-1] == f"Job succeeded: the model is {ended.fine_tuned_model}."
    assert isinstance(ended.hyperparameters.batch_size, int)
    assert ended.hyperparameters.learning_rate_multiplier == 1
    _ask(client, ended.fine_tuned_model)
    _find_results(stack, client, ended, newest)


def _find_results(stack: RunningStack, client: openai.OpenAI, job: Any, newest: Any) -> None:
    """Losses are the same wherever they are told; the files are those of the last step and of the best."""
    told = stack.get(f"/fine_tuning/jobs/{job.id}/metrics", points=10)
    assert told["downsampled"] and told["data"][-1]["step"] == STEPS
    losses = {row["step"]: row["validation_loss"] for row in told["evaluations"]}
    assert told["data"][-1]["validation_loss"] == losses[STEPS] == newest.metrics.full_valid_loss
    (result,) = job.result_files
    rows = list(csv.DictReader(io.StringIO(client.files.content(result).text)))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert {int(row["step"]): float(row["valid_loss"]) for row in rows if row["valid_loss"]} == losses
    assert float(rows[-1]["train_loss"]) == told["data"][-1]["loss"]
    names = {file["name"]: file["sha256"] for file in stack.get(f"/fine_tuning/jobs/{job.id}/files")["data"]}
    last = {name for name in names if "/" not in name}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= last
    assert {name.removeprefix("best/") for name in names if name.startswith("best/")} == last
    assert f"evaluation/samples-step-{STEPS}.jsonl" in names
    client.models.retrieve(f"{job.fine_tuned_model}:best")


def _ask(client: openai.OpenAI, model: str | None) -> None:
    """A streamed answer is the same text as one in a piece."""
    assert model is not None
    asked: Any = {
        "messages": [{"role": "user", "content": "你好，我想查一下话费。"}],
        "max_tokens": 24,
        "temperature": 0,
    }
    whole = client.chat.completions.create(model=model, **asked)
    chunks = list(
        client.chat.completions.create(model=model, stream=True, stream_options={"include_usage": True}, **asked)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None and len(chunks) > 3
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="ft:none", stream=True, **asked)


def test_what_waits_is_paused_and_cancelled_at_once(stack: RunningStack, client: openai.OpenAI, examples: Path) -> None:
    running = _start(client, examples, steps=100_000)
    stack.wait_until(lambda: client.fine_tuning.jobs.retrieve(running.id).status == "running", 240)
    waiting = _start(client, examples)
    stack.wait_until(lambda: client.fine_tuning.jobs.retrieve(waiting.id).status == "queued", 60)
    assert client.fine_tuning.jobs.pause(waiting.id).status == "paused"
    assert client.fine_tuning.jobs.resume(waiting.id).status == "queued"
    assert client.fine_tuning.jobs.pause(waiting.id).status == "paused"
    assert client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.resume(waiting.id)
    client.fine_tuning.jobs.cancel(running.id)
    assert stack.ended(f"/fine_tuning/jobs/{running.id}", 60)["status"] == "cancelled"


def test_a_file_that_cannot_be_learned_fails_the_job(stack: RunningStack, client: openai.OpenAI) -> None:
    labels = stack.upload("labels.jsonl", b'{"text": "a", "label": "b"}\n', purpose="labels")
    with pytest.raises(openai.UnprocessableEntityError, match="training_file"):
        client.fine_tuning.jobs.create(model="scratch:tiny", training_file=labels["id"])
    file = stack.http.post("/files", files={"file": ("x.bin", b"\x00\x01\x02" * 99)}, data={"purpose": "fine-tune"})
    job = stack.http.post("/fine_tuning/jobs", json={"model": "scratch:tiny", "training_file": file.json()["id"]})
    if job.status_code == 200:
        ended = stack.ended(f"/fine_tuning/jobs/{job.json()['id']}", 60)
        assert (ended["status"], ended["error"]["param"]) == ("failed", "training_file")
    else:
        assert job.json()["error"]["param"] == "training_file"


def _registered_base(stack: RunningStack, folder: Path) -> str:
    """The name of a tiny base, registered as an operator does it."""
    add = [sys.executable, "-m", "app.cli", "models", "add", str(make_tiny_base(folder / "tiny")), "--name", "tiny"]
    subprocess.run([*add, "--data", str(stack.folder)], env=stack.env, check=True, capture_output=True)
    return "tiny"


@pytest.mark.parametrize("stack", ["servers"], indirect=True)  # what differs from the other stack is tested above
def test_a_version_is_learned_with_another_mixed_in_and_asked_as_it_was_curated(
    stack: RunningStack, examples: Path, tmp_path: Path
) -> None:
    """By LoRA; and on any machine: the run's own folder is gone when its checkpoint is asked."""
    base = _registered_base(stack, tmp_path)
    lines = (examples / "dialogues.jsonl").read_bytes().splitlines(keepends=True)
    main, held, other = (
        stack.version(stack.upload("part.jsonl", b"".join(part))["id"])["id"]
        for part in (lines[:200], lines[180:240], lines[240:])
    )
    mix = [{"version": other, "weight": 0.5}]
    trainer = {
        "model": {"lora": {"rank": 4}}, "data": {**LENGTHS, "mix": mix},
        "run": {"max_steps": 6, "nproc": 1}, "batch": {"tokens": 1024},
        "checkpoint": {"every_steps": 3}, "evaluate": EVALUATE,
    }  # fmt: skip
    body = {"model": base, "training_file": main, "validation_file": held, "trainer": trainer}
    made = stack.http.post("/fine_tuning/jobs", json=body)
    assert made.status_code == 200, made.text
    path = f"/fine_tuning/jobs/{made.json()['id']}"
    job = stack.ended(path)
    assert job["status"] == "succeeded", job["error"]
    assert (job["validation_file"], job["validation_version"], job["dataset_version"]) == (held, held, main)
    assert job["trainer"]["data"]["mix"] == [{**mix[0], "where": []}]
    assert job["hyperparameters"]["learning_rate_multiplier"] == 1, "of LoRA's own default"
    assert str(stack.folder) not in json.dumps(job), "no path of the machine"
    events = stack.get(f"{path}/events", limit=100)["data"]
    vectors = next(event["data"] for event in events if event["message"].startswith("token vectors"))
    assert sum(vectors["shared_with_validation"].values()) >= 20, "what both have is not trained on"
    assert set(vectors["sources"]) == {main, other}

    files = {file["name"] for file in stack.get(f"{path}/files")["data"]}
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "model.safetensors"} <= files

    shutil.rmtree(stack.folder / "runs")
    listed = stack.get(f"{path}/checkpoints")["data"]
    assert [row["step_number"] for row in listed if row["available"]] == [6, 3, 0]
    asked = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8, "temperature": 0}
    tuned = job["fine_tuned_model"]
    for name in (f"{tuned}:ckpt-step-3", f"{job['id']}:ckpt-step-0", f"{tuned}:best"):
        answer = stack.http.post("/chat/completions", json={**asked, "model": name})
        assert answer.status_code == 200, answer.text
    unknown = stack.http.post("/chat/completions", json={**asked, "model": f"{job['id']}:ckpt-step-4"})
    assert unknown.status_code == 404
    assert "0, 3, 6" in unknown.json()["detail"]

    whole = {**asked, "model": tuned}
    curated = stack.http.post("/chat/completions", json={**whole, "curate": True}).json()
    said = curated["curated"]["messages"][-1]["content"]
    assert said == "我想查一下话费，号码是[PHONE_1]。"
    assert {row["operator"] for row in curated["curated"]["trace"]} == {"smooth_disfluency", "redact_personal_data"}
    plain = stack.http.post("/chat/completions", json={**whole, "messages": [{"role": "user", "content": said}]}).json()
    assert (curated["choices"], curated["usage"]) == (plain["choices"], plain["usage"])
    nothing = {**whole, "curate": True, "messages": [{"role": "user", "content": "\u200b"}]}
    refused = stack.http.post("/chat/completions", json=nothing)
    assert refused.status_code == 422
    assert "normalize_text" in refused.json()["detail"]
    with stack.http.stream("POST", "/chat/completions", json={**whole, "curate": True, "stream": True}) as chunks:
        first = next(line for line in chunks.iter_lines() if line.startswith("data: "))
    assert json.loads(first.removeprefix("data: "))["curated"] == curated["curated"]
