"""A record that breaks the loss: over HTTP the job goes back, leaves it out, and says where in which upload it is."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_stack import ROOT, RunningStack

MARKER = "毒丸毒丸"
LINE = 31


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """A stack whose training processes lose their loss on a text that holds the marker."""
    paths = [str(ROOT / "tests/chaos/trainer/injected"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TALKMILL_HARM": json.dumps({MARKER: "nan"})}
    running = RunningStack(tmp_path, env=env)
    yield running
    assert running.stop() == []


def test_a_job_recovers_from_a_record_and_tells_where_it_is(stack: RunningStack, examples: Path) -> None:
    lines = (examples / "dialogues.jsonl").read_text("utf-8").splitlines()[:40]
    bad = json.loads(lines[LINE - 1])
    bad["messages"][0]["content"] += MARKER
    lines[LINE - 1] = json.dumps(bad, ensure_ascii=False)
    file = stack.upload("some.jsonl", "\n".join(lines).encode(), purpose="fine-tune")
    trainer = {
        "model": {"scratch": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 800}},
        "data": {"max_source_length": 160, "max_target_length": 64, "validation_share": 0},
        "batch": {"tokens": 1120}, "run": {"epochs": 1, "nproc": 1}, "checkpoint": {"every_steps": 2},
        "evaluate": {"bleu_samples": 0},
    }  # fmt: skip
    body = {"model": "scratch:tiny", "training_file": file["id"], "trainer": trainer}
    made = stack.http.post("/fine_tuning/jobs", json=body).json()
    path = f"/fine_tuning/jobs/{made['id']}"
    job = stack.ended(path, 400)
    assert job["status"] == "succeeded", job["error"]
    (entry,) = job["recovery"]
    assert entry["records"] == [{"conversation_id": bad["id"], "file": file["id"], "line": LINE}]
    assert entry["checkpoint"]["step"] < entry["step"]
    assert entry["checkpoint"]["why"]
    assert "detour" not in entry
    steps = [row["step"] for row in stack.get(f"{path}/metrics", points=1000)["data"]]
    assert steps == list(range(1, job["progress"]["steps"] + 1)), "each step is told once, with what it was at last"
    warnings = [e["message"] for e in stack.get(f"{path}/events", limit=100)["data"] if e["level"] == "warning"]
    assert any(f"from the checkpoint of step {entry['checkpoint']['step']}" in warning for warning in warnings)
    with stack.http.stream("GET", f"{path}/stream", headers={"Last-Event-ID": "0-0"}) as told:
        assert f'"step": {steps[-1]}' in told.read().decode()
