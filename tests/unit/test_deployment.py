"""The container files say nothing that the code does not know."""

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from app.cli import main
from app.settings import Settings

ROOT = Path(__file__).parents[2]
OURS = ("api", "curate", "train", "migrate")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SECRETS = {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"}


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    return services


def _without_variables(text: str) -> str:
    """Compose's own interpolation, with a value for every variable that has no default."""
    return re.sub(r"\$\{\w+:([-?])([^}]*)\}", lambda found: found[2] if found[1] == "-" else "value", text)


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_runs_a_command_that_exists_with_options_it_knows(name: str) -> None:
    command, *arguments = _services()[name]["command"]
    found = main.get_command(click.Context(main), command)
    assert found is not None
    found.make_context(command, arguments)  # raises on an unknown option or a bad value


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_is_configured_by_settings_that_exist(name: str) -> None:
    ours = {
        key.removeprefix("TALKMILL_").lower(): _without_variables(str(value))
        for key, value in _services()[name]["environment"].items()
        if key.startswith("TALKMILL_")
    }
    assert set(ours) >= {"database_url", "broker_url", "store_url"}
    assert set(ours) <= set(Settings.model_fields)
    settings = Settings(**ours)
    assert settings.sqlalchemy_url.startswith("postgresql+psycopg://")
    assert settings.bucket == ("talkmill", "blobs")


def test_the_image_is_configured_by_settings_that_exist() -> None:
    variables = re.findall(r"TALKMILL_(\w+)=", DOCKERFILE)
    assert "DATA_DIR" in variables
    assert {name.lower() for name in variables} <= set(Settings.model_fields)


def test_curation_is_spread_and_training_has_a_gpu() -> None:
    assert int(_without_variables(str(_services()["curate"]["deploy"]["replicas"]))) >= 2
    (device,) = _services()["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    queues = {_services()[name]["command"][2] for name in ("curate", "train")}
    assert queues == {"curate", "train"}


def test_no_secret_is_written_down_and_a_missing_one_is_told() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    used = dict(re.findall(r"(?<!\$)\$\{(\w+):([-?])", text))
    assert {name for name, kind in used.items() if kind == "?"} == SECRETS
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE))
    assert set(example) == set(used)
    assert all(example[name] == "" for name in SECRETS)
    for service in _services().values():
        for key, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY|AUTH", key):
                assert str(value).startswith("${"), key


def test_services_wait_for_what_they_need() -> None:
    services = _services()
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"], (name, other)
            else:
                assert services[other]["restart"] == "no", (name, other)
    for name in ("api", "curate", "train"):
        assert set(services[name]["depends_on"]) == {"migrate", "bucket", "valkey"}


def test_every_volume_is_declared_and_every_store_of_data_has_one() -> None:
    mounted = [volume.split(":")[0] for service in _services().values() for volume in service.get("volumes", ())]
    assert sorted(mounted) == sorted(COMPOSE["volumes"])
    for name in ("api", "curate", "train"):
        assert _services()[name]["volumes"][0].endswith(":/data")


def test_the_image_holds_every_package_and_runs_as_nobody_special() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = {path for line in re.findall(r"^COPY (?!--)(.+)$", DOCKERFILE, re.MULTILINE) for path in line.split()[:-1]}
    assert packages <= copied
    assert all((ROOT / path).exists() for path in copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert copied == allowed
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert stages[-1].split()[2] == "service"
    for stage in stages:
        users = re.findall(r"^USER (\w+)$", stage, re.MULTILINE)
        assert not users or users[-1] == "talkmill"
    assert 'ENTRYPOINT ["talkmill"]' in DOCKERFILE
    assert DOCKERFILE.startswith("#") and "FROM python:3.11-slim AS base" in DOCKERFILE
