"""Which fine-tuning jobs are taken, and what is said of those that are not."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.db import reading, writing
from app.models import Dataset, Job, JobFile, Version, new_id
from app.training.repository import model_files

Headers = dict[str, str]


def _version(status: str = "succeeded", operators: list[dict[str, Any]] | None = None) -> str:
    with writing() as session:
        dataset = Dataset(id=new_id("ds"), name="a")
        session.add(dataset)
        session.flush()
        version = Version(
            id=new_id("ver"), dataset_id=dataset.id, number=1, status=status, recipe={"operators": operators or []},
            recipe_fingerprint="f", as_of="2026-11-01",
        )  # fmt: skip
        session.add(version)
        return version.id


def _post(client: TestClient, headers: Headers, **body: Any) -> Any:
    return client.post("/v1/fine_tuning/jobs", json={"model": "scratch:tiny", **body}, headers=headers)


def test_a_mix_names_versions_by_id(client: TestClient, everything: Headers) -> None:
    main, other, validation = _version(), _version(), _version()
    mix = [{"version": other, "weight": 0.2, "where": ["province:四川省"]}]
    made = _post(
        client, everything, training_file=main, validation_file=validation,
        trainer={"data": {"mix": mix, "where": ["gender:female", "gender:unknown"]}},
    )  # fmt: skip
    assert made.status_code == 200, made.text
    job = made.json()
    assert job["trainer"]["data"]["mix"] == mix
    assert (job["dataset_version"], job["validation_version"]) == (main, validation)
    assert (job["training_file"], job["validation_file"]) == (main, validation)
    assert job["status"] == "queued"


MISSING = "ver-" + "0" * 24


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"mix": [{"version": MISSING, "weight": 1}]}, "trainer.data.mix.0.version"),
        ({"mix": [{"version": "/etc/passwd", "weight": 1}]}, "trainer.data.mix.0.version"),
        ({"mix": [{"version": 3, "weight": 1}]}, "trainer.data.mix.0.version"),
        ({"mix": [{"weight": 1}]}, "trainer.data.mix.0.version"),
        ({"mix": [3]}, "trainer.data.mix.0"),
        ({"mix": 3}, "trainer.data.mix"),
        ({"mix": [{"version": "running", "weight": 1}]}, "trainer.data.mix.0.version"),
        ({"mix": [{"version": "ok", "weight": 0}]}, "trainer.data.mix.0.weight"),
        ({"mix": [{"version": "ok", "weight": 1, "where": ["colour:red"]}]}, "trainer.data.mix.0.where.0"),
        ({"mix": [{"version": "short", "weight": 1}], "max_source_length": 600}, "trainer.data.max_source_length"),
        ({"where": ["province:四川省", "colour:red"]}, "trainer.data.where.1"),
        ({"where": ["province"]}, "trainer.data.where.0"),
        ({"where": "province:四川省"}, "trainer.data.where"),
        ({"validation": "manifest.json"}, "trainer.data.validation"),
        ({"version": "manifest.json"}, "trainer.data.version"),
    ],
)
def test_data_that_cannot_be_learned_is_refused_by_its_place(
    client: TestClient, everything: Headers, data: dict[str, Any], param: str
) -> None:
    truncated = {"kind": "truncate_history", "max_source_length": 512, "max_target_length": 512}
    known: dict[str, Callable[[], str]] = {
        "ok": _version, "running": lambda: _version("running"), "short": lambda: _version(operators=[truncated])
    }  # fmt: skip
    for source in data["mix"] if isinstance(data.get("mix"), list) else []:
        if isinstance(source, dict) and source.get("version") in known:
            source["version"] = known[source["version"]]()
    refused = _post(client, everything, training_file=_version(), trainer={"data": data})
    assert refused.status_code == 422, refused.text
    assert refused.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("validation", "status"), [("failed", 422), ("missing", 404), ("the training_file", 422), ("no id", 422)]
)
def test_a_validation_file_that_cannot_be_used_is_refused(
    client: TestClient, everything: Headers, validation: str, status: int
) -> None:
    main = _version()
    named = {"failed": lambda: _version("failed"), "missing": lambda: MISSING, "the training_file": lambda: main}
    refused = _post(client, everything, training_file=main, validation_file=named.get(validation, lambda: "x")())
    assert refused.status_code == status
    assert refused.json()["error"]["param"] == "validation_file"


def test_the_multiplier_multiplies_the_default_of_its_kind(client: TestClient, everything: Headers) -> None:
    made = _post(client, everything, training_file=_version(), hyperparameters={"learning_rate_multiplier": 0.5})
    assert made.json()["trainer"]["optim"]["peak_lr"] == pytest.approx(5e-4)


def _finished(files: dict[str, str]) -> Job:
    version_id = _version()
    with writing() as session:
        job = Job(
            id=new_id("ftjob"), version_id=version_id, model="scratch:tiny", status="succeeded", config={"run": {}},
            request={"training_file": ""}, fine_tuned_model="ft:scratch:tiny:talkmill:00000000",
        )  # fmt: skip
        session.add(job)
        session.flush()
        session.add_all(JobFile(job_id=job.id, name=name, sha256=sha256, bytes=1) for name, sha256 in files.items())
    return job


def test_the_last_and_the_best_model_have_names_of_their_own(client: TestClient, everything: Headers) -> None:
    files = {"config.json": "a", "model.safetensors": "b", "best/config.json": "a", "best/model.safetensors": "c"}
    beside = {"adapter/adapter_config.json": "d", "evaluation/samples-step-1.jsonl": "e"}
    name = _finished(files | beside).fine_tuned_model
    assert name is not None
    with reading() as session:
        assert model_files(session, name) == {"config.json": "a", "model.safetensors": "b"}
        assert model_files(session, f"{name}:best") == {"config.json": "a", "model.safetensors": "c"}
    for known in (name, f"{name}:best"):
        assert client.get(f"/v1/models/{known}", headers=everything).json()["id"] == known
        made = _post(client, everything, training_file=_version(), model=known)
        assert made.json()["trainer"]["model"] == {"base": known}
    assert client.get(f"/v1/models/{name}:worst", headers=everything).status_code == 404


def test_a_model_that_was_never_validated_has_no_best(client: TestClient, everything: Headers) -> None:
    name = _finished({"config.json": "a"}).fine_tuned_model
    assert client.get(f"/v1/models/{name}:best", headers=everything).status_code == 404
    asked = {"model": f"{name}:best", "messages": [{"role": "user", "content": "a"}]}
    assert client.post("/v1/chat/completions", json=asked, headers=everything).status_code == 404


def test_jobs_are_found_by_their_metadata(client: TestClient, everything: Headers) -> None:
    version = _version()
    given: list[dict[str, str] | None] = [{"team": "a.b", "run": "1"}, {"team": "a.b", "run": "2"}, None]
    ids = [_post(client, everything, training_file=version, metadata=one).json()["id"] for one in given]

    def found(query: str) -> list[str]:
        answer = client.get(f"/v1/fine_tuning/jobs?{query}", headers=everything)
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["data"]]

    assert found("metadata[team]=a.b") == [ids[1], ids[0]]
    assert found("metadata%5Bteam%5D=a.b&metadata[run]=1") == [ids[0]]
    assert found("metadata[team]=other") == found("metadata[te'am]=a.b") == []
    assert found("metadata=null") == [ids[2]]
    assert len(found("")) == 3
    refused = client.get('/v1/fine_tuning/jobs?metadata["]=1', headers=everything)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "metadata")
