"""The main job on the real stack: upload, ingest, curate, trace, export, statistics, train, answer."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from running_stack import RunningStack

from curation.command import curate
from curation.recipe import parse_recipe


def _example_version(stack: RunningStack, examples: Path) -> dict[str, Any]:
    file = stack.upload("dialogues.jsonl", (examples / "dialogues.jsonl").read_bytes())
    return stack.version(file["id"], recipe=json.loads((examples / "recipe.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def version(stack: RunningStack, examples: Path) -> dict[str, Any]:
    return _example_version(stack, examples)


def test_a_version_explains_where_every_conversation_went(stack: RunningStack, version: dict[str, Any]) -> None:
    assert version["status"] == "succeeded"
    counts = version["counts"]
    assert version["progress"]["shards_total"] > 1
    assert counts["conversations_in"] >= 300
    assert counts["conversations_in"] == counts["conversations_kept"] + counts["conversations_dropped"]
    assert version["progress"]["conversations_done"] == counts["conversations_in"]
    assert counts["by_operator"]["smooth_disfluency"]["edited"] > 100
    page = stack.get(f"/versions/{version['id']}/conversations", dropped=True, limit=1000)
    assert len(page["data"]) == counts["conversations_dropped"]
    assert all(row["operator"] and row["code"] for row in page["data"])


def test_each_trace_row_points_at_what_it_changed(stack: RunningStack, version: dict[str, Any]) -> None:
    rows = stack.get(f"/versions/{version['id']}/trace", operator="smooth_disfluency", limit=200)["data"]
    assert len(rows) == 200
    for row in rows[:20]:
        pair = stack.get(f"/versions/{version['id']}/conversations/{row['conversation_id']}")
        del row["row"]
        assert row in pair["trace"]
        assert row["before"] in "\n".join(message["content"] for message in pair["original"]["messages"])


def test_the_export_holds_every_kept_row(stack: RunningStack, version: dict[str, Any]) -> None:
    response = stack.http.get(f"/versions/{version['id']}/export", params={"format": "openai"})
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert len(lines) == version["counts"]["rows"]
    roles = {message["role"] for line in lines for message in line["messages"]}
    assert roles <= {"system", "user", "assistant"}


def test_statistics_count_every_conversation_once(stack: RunningStack, version: dict[str, Any]) -> None:
    answer = stack.get(f"/versions/{version['id']}/tags/statistics", by=["gender", "age_band"])
    assert answer["total"] == version["counts"]["conversations_kept"]
    assert sum(row["value"] for row in answer["rows"]) == answer["total"]
    assert {row["gender"] for row in answer["rows"]} >= {"female", "male", "unknown"}


def test_the_digest_does_not_depend_on_workers_or_segments(
    stack: RunningStack, version: dict[str, Any], examples: Path, tmp_path: Path
) -> None:
    alone = RunningStack(tmp_path, workers=1)
    try:
        other = _example_version(alone, examples)
        assert other["progress"]["shards_total"] == 1 < version["progress"]["shards_total"]
        assert other["digest"] == version["digest"]
        assert other["counts"] == version["counts"]
        recipe = parse_recipe(json.loads((examples / "recipe.json").read_text("utf-8")))
        as_of = date.fromisoformat(version["as_of"])
        manifest = curate([examples / "dialogues.jsonl"], tmp_path / "command", recipe=recipe, as_of=as_of)
        assert manifest["digest"] == version["digest"], "the command makes what the service makes"
    finally:
        assert alone.stop() == []


def test_a_running_job_is_cancelled_and_its_processes_end(stack: RunningStack, version: dict[str, Any]) -> None:
    trainer = {"data": {"max_source_length": 128, "max_target_length": 64}, "batch": {"tokens": 1024}}
    trainer["run"] = {"max_steps": 100_000, "nproc": 2}
    body = {"model": "scratch:tiny", "training_file": version["id"], "trainer": trainer}
    job = stack.http.post("/fine_tuning/jobs", json=body).json()
    path = f"/fine_tuning/jobs/{job['id']}"
    stack.wait_until(lambda: stack.get(path)["progress"]["step"] > 2, 120)
    assert stack.get(path)["status"] == "running"
    assert stack.http.post(f"{path}/cancel").status_code == 200
    assert stack.ended(path, 40)["status"] == "cancelled"
    stack.wait_until(lambda: not [p for p in stack.family() if "trainer" in " ".join(p.cmdline())], 10)
    messages = [event["message"] for event in stack.get(f"{path}/events", limit=100)["data"]]
    assert "Job cancelled." in messages
    assert stack.http.post(f"{path}/cancel").status_code == 409


@pytest.mark.shared_data
def test_no_conversation_of_crosswoz_is_lost_and_it_trains(stack: RunningStack, shared_data: Path) -> None:
    file = stack.upload("crosswoz.jsonl", (shared_data / "dialog.crosswoz.val.jsonl").read_bytes())
    assert file["counts"]["conversations"] == 500
    assert file["counts"]["quarantined"] == 0
    made = stack.version(file["id"])
    assert made["counts"]["conversations_in"] == 500
    response = stack.http.get(f"/versions/{made['id']}/export", params={"format": "openai"})
    kept = {json.loads(line)["id"].split("/")[0] for line in response.text.splitlines()}
    dropped = stack.get(f"/versions/{made['id']}/conversations", dropped=True, limit=1000)["data"]
    assert len(kept) + len(dropped) == 500
    assert len(dropped) == made["counts"]["conversations_dropped"]

    job = _train(stack, made["id"], steps=50)
    assert job["status"] == "succeeded", job["error"]
    losses = [line["loss"] for line in stack.get(f"/fine_tuning/jobs/{job['id']}/metrics", points=1000)["data"]]
    assert len(losses) == 50
    assert losses[-1] < losses[0] - 1
    _open_with_transformers(stack, job)
    asked = [{"role": "user", "content": "你好，请给我推荐一个景点。"}]
    for model in (f"{job['fine_tuned_model']}:ckpt-step-0", job["fine_tuned_model"]):
        answer = stack.http.post("/chat/completions", json={"model": model, "messages": asked, "max_tokens": 8})
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] > 0


def _train(stack: RunningStack, version_id: str, steps: int) -> dict[str, Any]:
    trainer = {
        "data": {"max_source_length": 256, "max_target_length": 128},
        "batch": {"tokens": 2048},
        "run": {"max_steps": steps, "nproc": 2},
        "evaluate": {"bleu_samples": 4, "max_new_tokens": 8},
    }
    body = {"model": "scratch:tiny", "training_file": version_id, "trainer": trainer}
    response = stack.http.post("/fine_tuning/jobs", json=body)
    assert response.status_code == 200, response.text
    job = response.json()
    assert job["status"] in ("validating_files", "queued", "running")
    return stack.ended(f"/fine_tuning/jobs/{job['id']}", 300)


def _open_with_transformers(stack: RunningStack, job: dict[str, Any]) -> None:
    """The model folder, fetched file by file over HTTP, is one that transformers opens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = stack.folder / "fetched"
    folder.mkdir()
    for file in stack.get(f"/fine_tuning/jobs/{job['id']}/files")["data"]:
        content = stack.http.get(f"/fine_tuning/jobs/{job['id']}/files/{file['name']}")
        path = folder / file["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.content)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "llama"
    assert tokenizer.decode(tokenizer("你好，世界")["input_ids"]) == "你好，世界"
