"""What may become an experiment: which versions and jobs a grid makes, and what a wrong one is told."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_in_process import do_pending_work, service_in_process

from app.db import reading, writing
from app.experiments.grid import Point, name_in, points, with_operators
from app.experiments.repository import runs_of
from app.models import Experiment, Job, Version
from worker.experimenting import lead_experiments_on

SMOOTHED = {"operators": [{"kind": "structure_dialogue"}, {"kind": "smooth_disfluency"}, {"kind": "tag_users"}]}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("service")
    with service_in_process(
        {"TALKMILL_DATA_DIR": str(folder), "TALKMILL_BROKER_URL": "redis://127.0.0.1:1/0"}
    ) as client:
        yield client


@pytest.fixture(scope="module")
def version(http: TestClient) -> dict[str, Any]:
    """A version of a few dialogues, smoothed and tagged."""
    said = [{"role": "user", "content": "嗯嗯，我想查话费"}, {"role": "assistant", "content": "好的，您的话费是三十元"}]
    lines = "".join(json.dumps({"id": f"t{n}", "messages": said}, ensure_ascii=False) + "\n" for n in range(4))
    file = http.post("/v1/files", files={"file": ("a.jsonl", lines)}, data={"purpose": "conversations"}).json()
    dataset = http.post("/v1/datasets", json={"name": "calls"}).json()
    body = {"files": [file["id"]], "recipe": SMOOTHED}
    made = http.post(f"/v1/datasets/{dataset['id']}/versions", json=body).json()
    do_pending_work()
    return {**made, "file": file["id"]}


@pytest.fixture
def ask(http: TestClient, version: dict[str, Any]) -> Callable[..., Any]:
    """Asks for an experiment on the version; settings of the job and the rest as given."""

    def post(grid: Any = None, job: dict[str, Any] | None = None, **body: Any) -> Any:
        whole = {"model": "scratch:tiny", "training_file": version["id"], **(job or {})}
        given = {"name": "made", "job": whole, **({} if grid is None else {"grid": grid}), **body}
        return http.post("/v1/experiments", json=given)

    return post


def _jobs(experiment: str) -> list[Job]:
    with reading() as session:
        return [job for _, job in runs_of(session, [experiment])[experiment]]


def test_the_built_in_grid_varies_both_lengths_alone_and_together(ask: Callable[..., Any]) -> None:
    made = ask()
    assert made.status_code == 202, made.text
    found = made.json()
    assert found["id"].startswith("exp-")
    assert found["evaluation"]["equal_tokens"] is True
    data = [job.config["data"] for job in _jobs(found["id"])]
    assert [(one["max_source_length"], one["max_target_length"]) for one in data] == [
        (512, 256), (512, 512), (1024, 256), (1024, 512)
    ]  # fmt: skip
    assert {one["min_history_ratio"] for one in data} == {1.0}, "exactly the newest history that fits"
    assert {job.config["batch"]["by"] for job in _jobs(found["id"])} == {"conversations"}
    assert len({job.version_id for job in _jobs(found["id"])}) == 1
    assert found["progress"] == {"runs": 4, "trained": 0, "scored": 0}
    assert found["runs"][1]["name"] == "max_source_length 512, max_target_length 512"


def test_what_the_job_says_of_history_stands(ask: Callable[..., Any]) -> None:
    trainer = {"data": {"min_history_ratio": 0.5}, "evaluate": {"bleu_samples": 7}}
    made = ask({"trainer.data.max_source_length": [64, 128]}, {"trainer": trainer})
    configs = [job.config for job in _jobs(made.json()["id"])]
    assert {config["data"]["min_history_ratio"] for config in configs} == {0.5}
    assert {config["evaluate"]["bleu_samples"] for config in configs} == {7}


def test_a_batch_in_tokens_gives_way_to_steps_of_conversations(ask: Callable[..., Any]) -> None:
    grid = {"trainer.data.max_source_length": [64, 128]}
    made = ask(grid, {"trainer": {"batch": {"tokens": 2048, "conversations": 4}}}).json()
    assert [job.config["batch"] for job in _jobs(made["id"])] == [{"conversations": 4, "by": "conversations"}] * 2
    (warning,) = made["warnings"]
    assert warning.startswith("batch.tokens of the job is not used")
    kept = ask(grid, {"trainer": {"batch": {"tokens": 2048, "by": "tokens"}}}).json()
    assert {job.config["batch"]["tokens"] for job in _jobs(kept["id"])} == {2048}
    assert "other replies in a step" in kept["warnings"][0]


def test_seeds_hold_out_the_same(ask: Callable[..., Any]) -> None:
    made = ask({"seed": [1, 2, 3], "hyperparameters.n_epochs": [1, 2]}, evaluation={"holdout": 0.1})
    configs = [job.config for job in _jobs(made.json()["id"])]
    assert [config["run"]["seed"] for config in configs] == [1, 1, 2, 2, 3, 3]
    assert [config["run"]["epochs"] for config in configs] == [1, 2] * 3
    assert {config["data"]["validation_seed"] for config in configs} == {0}
    assert {config["data"]["validation_share"] for config in configs} == {0.1}


def test_operators_on_and_off_are_versions_scored_on_raw_and_on_curated_turns(
    ask: Callable[..., Any], version: dict[str, Any]
) -> None:
    made = ask({"recipe.operators.smooth_disfluency": [True, False]})
    assert made.status_code == 202, made.text
    jobs = _jobs(made.json()["id"])
    assert jobs[0].version_id == version["id"], "the version itself where the recipe is its own"
    assert [job.status for job in jobs] == ["queued", "validating_files"], "one waits for its version"
    with reading() as session:
        experiment = session.get_one(Experiment, made.json()["id"])
        recipes = [session.get_one(Version, one["version"]).recipe for one in experiment.targets]
    kinds = [[operator["kind"] for operator in recipe["operators"]] for recipe in recipes]
    assert [one["name"] for one in experiment.targets] == ["raw", "smooth_disfluency on", "smooth_disfluency off"]
    assert kinds[0] == ["structure_dialogue"]
    assert set(kinds[1]) - set(kinds[2]) == {"smooth_disfluency"}


def test_a_file_begins_with_the_default_recipe(ask: Callable[..., Any], version: dict[str, Any]) -> None:
    grid = {"recipe.operators.deduplicate": [True, False], "recipe.operators.smooth_disfluency.fillers": [True, False]}
    made = ask(grid, {"training_file": version["file"]})
    assert made.status_code == 202, made.text
    assert len({job.version_id for job in _jobs(made.json()["id"])}) == 4


@pytest.mark.parametrize(
    ("grid", "param", "says"),
    [
        ({}, "grid", "at least one field"),
        ({"trainer.data.max_source_length": []}, "grid.trainer.data.max_source_length", "at least one value"),
        ({"trainer.data.max_source_length": [64, 64]}, "grid.trainer.data.max_source_length", "once"),
        ({"trainer.data.max_source_length": [64, 3]}, "grid.trainer.data.max_source_length", "with 3"),
        ({"trainer.data.max_sauce_length": [64]}, "grid.trainer.data.max_sauce_length", "with 64"),
        ({"trainer": [{}]}, "grid.trainer", "one field"),
        ({"learning_rate": [1]}, "grid.learning_rate", "no field of a job"),
        ({"validation_file": ["file-1"]}, "grid.validation_file", "evaluation.file"),
        ({"model": ["scratch:tiny", "scratch:none"]}, "grid.model", "with scratch:none"),
        ({"seed": list(range(65))}, "grid", "65 combinations"),
        ({"trainer.data.version": ["x"]}, "grid.trainer.data.version", "service's to set"),
        ({"recipe.operators.limit_repeats": [True, False]}, "grid.recipe.operators.limit_repeats", "no place"),
        ({"recipe.operators.smooth_disfluency": [1]}, "grid.recipe.operators.smooth_disfluency", "true, false"),
        ({"recipe.operators.deduplicate.near": [True]}, "grid.recipe.operators.deduplicate.near", "no operator"),
        ({"recipe.operators.smooth_disfluency.x": [1]}, "grid.recipe.operators.smooth_disfluency.x", "with 1"),
    ],
)  # fmt: skip
def test_a_wrong_grid_names_its_key(ask: Callable[..., Any], grid: Any, param: str, says: str) -> None:
    refused = ask(grid)
    assert refused.status_code == 422, refused.text
    assert refused.json()["error"]["param"] == param
    assert says in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"job": {"model": "scratch:none"}}, "job.model"),
        ({"job": {"trainer": {"run": {"epochs": -1}}}}, "job.trainer.run.epochs"),
        ({"job": {"trainer": {"data": 3}}}, "job.trainer"),
        ({"job": {"validation_file": "file-" + "0" * 24}}, "job.validation_file"),
        ({"job": {"colour": "red"}}, "job.colour"),
        ({"evaluation": {"holdout": 0.1, "file": "file-" + "0" * 24}}, "evaluation"),
        ({"evaluation": {"by": ["height"]}}, "evaluation.by[0]"),
    ],
)  # fmt: skip
def test_a_wrong_request_names_its_field(ask: Callable[..., Any], body: Any, param: str) -> None:
    refused = ask({"seed": [1, 2]}, **body)
    assert refused.status_code == 422, refused.text
    assert refused.json()["error"]["param"] == param


def test_what_is_learned_is_not_compared_on(ask: Callable[..., Any], version: dict[str, Any]) -> None:
    refused = ask({"seed": [1, 2]}, evaluation={"file": version["id"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "evaluation.file")
    made = ask({"seed": [1, 2]}, evaluation={"file": version["file"]})
    assert made.status_code == 202, made.text
    assert len({job.validation_version_id for job in _jobs(made.json()["id"])}) == 1


def test_nothing_is_left_of_a_refused_one(ask: Callable[..., Any], http: TestClient) -> None:
    before = len(http.get("/v1/fine_tuning/jobs", params={"limit": 1000}).json()["data"])
    assert ask({"trainer.data.max_source_length": [64, 3]}).status_code == 422
    assert len(http.get("/v1/fine_tuning/jobs", params={"limit": 1000}).json()["data"]) == before


def test_cancelling_ends_the_jobs(ask: Callable[..., Any], http: TestClient) -> None:
    made = ask({"seed": [1, 2]}).json()
    ended = http.post(f"/v1/experiments/{made['id']}/cancel")
    assert (ended.status_code, ended.json()["status"]) == (200, "cancelled")
    assert {job.status for job in _jobs(made["id"])} == {"cancelled"}
    assert http.post(f"/v1/experiments/{made['id']}/cancel").status_code == 409
    refused = http.get(f"/v1/experiments/{made['id']}/report")
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert made["id"] in [one["id"] for one in http.get("/v1/experiments").json()["data"]]


def test_an_experiment_whose_jobs_all_failed_fails(ask: Callable[..., Any], http: TestClient) -> None:
    made = ask({"seed": [1, 2]}).json()
    with writing() as session:
        for _, job in runs_of(session, [made["id"]])[made["id"]]:
            job.status, job.error = "failed", {"code": "x", "message": "no reply to learn", "param": None}
    lead_experiments_on()
    found = http.get(f"/v1/experiments/{made['id']}").json()
    assert found["status"] == "failed"
    assert "no reply to learn" in found["error"]


def test_runs_of_shorter_rows_are_made_once_more_as_long_in_tokens(ask: Callable[..., Any], http: TestClient) -> None:
    made = ask({"trainer.data.max_source_length": [64, 128]}, evaluation={"equal_tokens": True}).json()
    with writing() as session:
        for (_, job), tokens in zip(runs_of(session, [made["id"]])[made["id"]], (1_000, 1_500), strict=True):
            job.status, job.trained_tokens, job.progress = "succeeded", tokens, {"steps": 40}
    lead_experiments_on()
    runs = http.get(f"/v1/experiments/{made['id']}").json()["runs"]
    assert [(run["budget"], run["settings"]["trainer.data.max_source_length"]) for run in runs] == [
        ("epochs", 64), ("epochs", 128), ("tokens", 64)
    ]  # fmt: skip
    assert _jobs(made["id"])[2].config["run"]["max_steps"] == 60
    lead_experiments_on()
    assert len(_jobs(made["id"])) == 3
    http.post(f"/v1/experiments/{made['id']}/cancel")


def test_points_are_all_combinations_with_names_that_tell_them_apart() -> None:
    made = points({"trainer.optim.peak_lr": [1e-3, 1e-4], "recipe.operators.tag_users": [True, False]})
    assert [point.name for point in made] == [
        "peak_lr 0.001, tag_users on", "peak_lr 0.001, tag_users off",
        "peak_lr 0.0001, tag_users on", "peak_lr 0.0001, tag_users off",
    ]  # fmt: skip
    assert Point({"seed": 1, "model": "m"}).without_seed == {"model": "m"}
    assert name_in({"seed": [1, 2], "model": ["m"]}, {"seed": 1, "model": "m"}) == "seed 1"


def test_an_operator_comes_where_the_default_recipe_has_it() -> None:
    recipe = {"operators": [{"kind": "structure_dialogue"}, {"kind": "redact_personal_data"}]}
    made = with_operators(recipe, {"recipe.operators.normalize_text": {"to_simplified": True}})
    assert made["operators"] == [
        {"kind": "structure_dialogue"}, {"kind": "normalize_text", "to_simplified": True}, {"kind": "redact_personal_data"}
    ]  # fmt: skip
