"""Registered bases: what the command takes and refuses, what the API lists, jobs and chats by name."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tiny_base import make_tiny_base

from app import migrations
from app.auth import create_key
from app.db import get_engine, reading, writing
from app.main import create_app
from app.models import Dataset, Job, RegisteredModel, Version, new_id
from app.settings import get_settings
from app.training import chat
from app.training.bases import NAME, BaseError, files_of
from app.training.folders import lay_out
from app.training.repository import model_files
from trainer.config import ConfigError
from trainer.structure.inspection import inspect


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A copy of the base to spoil."""
    return Path(shutil.copytree(base, tmp_path / "copy"))


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    (tmp_path / "data").mkdir()
    get_settings.cache_clear()
    migrations.upgrade()
    with writing() as session:
        _, token = create_key(session, "test", ["read", "train"])
    yield TestClient(create_app(), headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False)
    chat.generators().close()
    chat.generators.cache_clear()
    get_engine().dispose()
    get_settings.cache_clear()


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """`talkmill models …` in a process of its own, on the test's data folder."""
    line = [sys.executable, "-m", "app.cli", "models", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=dict(os.environ))


def test_a_registered_base_is_listed_laid_out_and_answers(client: TestClient, base: Path) -> None:
    added = command("add", base, "--name", "Tiny:1.0")
    assert added.returncode == 0, added.stderr
    assert "own chat template" in added.stdout
    assert "rms_norm: yes" in added.stdout

    listed = client.get("/v1/models").json()["data"]
    assert {"Tiny:1.0": "local", "scratch:tiny": "talkmill"}.items() <= {m["id"]: m["owned_by"] for m in listed}.items()
    shown = client.get("/v1/models/Tiny:1.0").json()
    assert shown == next(model for model in listed if model["id"] == "Tiny:1.0")
    assert client.get("/v1/models/Tiny:2.0").status_code == 404
    assert command("list").stdout.startswith("Tiny:1.0\t")

    with reading() as session:
        files = model_files(session, "Tiny:1.0")
    assert files is not None
    folder = lay_out(files)
    assert {path.name for path in folder.iterdir()} == {path.name for path in base.iterdir()}
    assert (folder / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()

    body = {"model": "Tiny:1.0", "messages": [{"role": "user", "content": "你好"}], "max_tokens": 5, "temperature": 0}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert 0 < answer.json()["usage"]["completion_tokens"] <= 5
    step = client.post("/v1/chat/completions", json={**body, "model": "Tiny:1.0:ckpt-step-0"})
    assert (step.status_code, step.json()["error"]["code"]) == (404, "model_not_found")


def test_a_name_never_changes_its_meaning(client: TestClient, base: Path, tmp_path: Path) -> None:
    assert command("add", base).returncode == 0
    assert command("add", base, "--name", "tiny").returncode == 0, "the same again is no mistake"
    other = make_tiny_base(tmp_path / "other", seed=1)
    refused = command("add", other, "--name", "tiny")
    assert refused.returncode == 1
    assert "choose another --name" in refused.stderr
    with reading() as session:
        assert session.query(RegisteredModel).count() == 1


def _finished_version() -> str:
    """The id of a version in the database, as far as the creation of a job looks at it."""
    with writing() as session:
        dataset = Dataset(id=new_id("ds"), name="a")
        session.add(dataset)
        session.flush()
        version = Version(
            id=new_id("ver"), dataset_id=dataset.id, number=1, status="succeeded", recipe={"operators": []},
            recipe_fingerprint="f", as_of="2026-11-01",
        )  # fmt: skip
        session.add(version)
        return version.id


@pytest.mark.parametrize(
    ("hyperparameters", "trainer", "batch"),
    [
        ({"batch_size": 16}, {}, {"conversations": 16}),
        ({"batch_size": 16}, {"batch": {"tokens": 4096}}, {"conversations": 16, "tokens": 4096}),
        ({"batch_size": 16}, {"batch": {"conversations": 8}}, {"conversations": 8}),
        ({"batch_size": "auto"}, {}, None),
    ],
)
def test_the_batch_size_counts_conversations_and_the_trainers_settings_win(
    client: TestClient, hyperparameters: dict[str, object], trainer: dict[str, object], batch: dict[str, int] | None
) -> None:
    body = {"model": "scratch:tiny", "training_file": _finished_version(), "trainer": trainer}
    made = client.post("/v1/fine_tuning/jobs", json={**body, "hyperparameters": hyperparameters})
    assert made.status_code == 200, made.text
    assert made.json()["hyperparameters"]["batch_size"] == hyperparameters["batch_size"]
    assert made.json()["trainer"].get("batch") == batch


@pytest.mark.parametrize("size", [0, -1, 2.5, 10**9, "many", None, True])
def test_a_batch_size_that_makes_no_sense_is_refused(client: TestClient, size: object) -> None:
    body = {"model": "scratch:tiny", "training_file": _finished_version(), "hyperparameters": {"batch_size": size}}
    refused = client.post("/v1/fine_tuning/jobs", json=body)
    assert refused.status_code == 422
    assert "batch_size" in refused.json()["error"]["param"]


def test_a_job_takes_a_registered_base_by_name(client: TestClient, base: Path) -> None:
    version_id = _finished_version()
    body = {"model": "tiny", "training_file": version_id}
    unknown = client.post("/v1/fine_tuning/jobs", json=body)
    assert unknown.status_code == 422
    assert "talkmill models add" in unknown.json()["detail"]
    assert command("add", base).returncode == 0
    hyperparameters = {"learning_rate_multiplier": 2}
    made = client.post("/v1/fine_tuning/jobs", json={**body, "hyperparameters": hyperparameters})
    assert made.status_code == 200, made.text
    with reading() as session:
        job = session.get_one(Job, made.json()["id"])
    assert job.config["model"] == {"base": "tiny"}
    assert job.config["optim"]["peak_lr"] == pytest.approx(1e-4), "twice the default of a full fine-tune"


Spoil = Callable[[Path], object]


def _without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def _config(**members: object) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **members}))

    return spoil


def _fewer_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _not_finite(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_without("config.json"), "no config.json"),
        (_without("tokenizer.json"), "no tokenizer.json"),
        (_without("model.safetensors"), "no safetensors"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80\x04."), "pickled files can run code"),
        (lambda folder: (folder / "extra.json").symlink_to("/etc/passwd"), "leads out of"),
    ],
)
def test_a_folder_that_is_no_safe_base_is_refused_before_anything_is_stored(
    copy: Path, spoil: Spoil, reason: str
) -> None:
    assert "model.safetensors" in {path.name for path in files_of(copy)}
    spoil(copy)
    with pytest.raises(BaseError, match=reason):
        files_of(copy)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_config(auto_map={"AutoModelForCausalLM": "code.Model"}), "code of its own"),
        (_config(quantization_config={"quant_method": "gptq"}), "quantised"),
        (_config(is_encoder_decoder=True), "no causal decoder"),
        (_config(hidden_size=64), "cannot open it"),
        (_config(model_type="unheard-of"), "cannot open it"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "cannot open it"),
        (_fewer_weights, "lack 1 of the weights, model.norm.weight first"),
        (_not_finite, "model.norm.weight holds numbers that are not finite"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json is damaged"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{% for"), "chat template is not valid"),
        (lambda folder: (folder / "chat_template.jinja").write_text("hello"), "render every turn"),
    ],
)
def test_a_base_that_cannot_be_trained_is_refused_on_opening_it(copy: Path, spoil: Spoil, reason: str) -> None:
    spoil(copy)
    with pytest.raises(ConfigError, match=reason):
        inspect(copy)


def test_a_refusal_is_one_clear_line_and_leaves_no_model(client: TestClient, copy: Path) -> None:
    _config(auto_map={"AutoModelForCausalLM": "code.Model"})(copy)
    refused = command("add", copy)
    assert refused.returncode == 1
    errors = [line for line in refused.stderr.splitlines() if not line.endswith(" …")]
    assert errors == [f"Error: {copy}: the model wants to run code of its own, which is never done"]
    with reading() as session:
        assert session.query(RegisteredModel).count() == 0
    assert not list(get_settings().work_dir.with_name("models").glob("*"))


def test_a_base_without_a_template_gets_chatml_and_room_for_its_marks(tmp_path: Path) -> None:
    base = make_tiny_base(tmp_path / "plain", template=None)
    facts = inspect(base)
    assert facts["chat_template"] == "ChatML"
    assert facts["end_of_turn"] == ["<|im_end|>"]
    assert [check["ok"] for check in facts["architecture"]] == [True] * 7


@pytest.mark.parametrize("name", ["scratch:tiny", "ft:a", "", "-a", "a/b", "a\n", "x" * 101, "a:ckpt-step-1", "模型"])
def test_names_that_would_be_taken_for_something_else_are_refused(name: str) -> None:
    assert NAME.fullmatch(name) is None


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="is no folder"):
        files_of(tmp_path / "nowhere")


def test_the_command_says_what_to_do_when_there_is_no_database(base: Path, tmp_path: Path) -> None:
    refused = command("add", base, "--data", tmp_path / "empty")
    assert refused.returncode == 1
    assert "talkmill migrate" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_third_model_waits_until_one_is_idle(
    client: TestClient, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generators = chat.Generators()
    folders = [Path(shutil.copytree(base, tmp_path / name)) for name in ("a", "b", "c")]
    commands = [[sys.executable, "-m", "trainer", "generate", str(folder)] for folder in folders]
    request = {"messages": [{"role": "user", "content": "你好"}], "max_new_tokens": 2}
    answers: list[object] = []
    third = threading.Thread(target=lambda: answers.extend(generators.ask(folders[2], None, request)))
    try:
        with generators._child(commands[0]) as first, generators._child(commands[1]) as second:
            third.start()
            third.join(1)
            assert third.is_alive()
            assert first.alive and second.alive, "a model that answers is never ended for another"
            monkeypatch.setattr(chat, "TIMEOUT_S", 0.05)
            with pytest.raises(chat.Unavailable, match="try again"):
                next(generators.ask(folders[2], None, request))
            monkeypatch.undo()
        third.join(60)
        assert len(answers) == 1
        assert [first.alive, second.alive] == [False, True], "the least recently used one made room"
    finally:
        generators.close()
