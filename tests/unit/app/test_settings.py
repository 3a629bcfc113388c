"""Settings: what other tools write is understood, what makes no sense is told in one line that names the variable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@h/db", "postgresql+psycopg://u:p@h/db"),
        ("postgresql://u:p%40ss@h:5433/db?sslmode=require", "postgresql+psycopg://u:p%40ss@h:5433/db?sslmode=require"),
        ("postgresql+psycopg://u@h/db", "postgresql+psycopg://u@h/db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ],
)
def test_a_database_is_named_as_elsewhere(given: str, used: str) -> None:
    assert Settings(database_url=given).sqlalchemy_url == used


def test_all_has_a_place_in_the_data_folder_unless_said_otherwise(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.sqlalchemy_url == f"sqlite:///{tmp_path}/talkmill.db"
    assert settings.bucket is None
    assert settings.store_dir == tmp_path / "store"
    assert settings.cache_dir == tmp_path / "cache"


@pytest.mark.parametrize(
    ("url", "bucket", "folder"),
    [
        ("s3://bucket", ("bucket", ""), None),
        ("s3://bucket/a/b/", ("bucket", "a/b"), None),
        ("file:///data/my%20blobs", None, Path("/data/my blobs")),
        ("/data/blobs", None, Path("/data/blobs")),
    ],
)
def test_a_store_is_a_bucket_or_a_folder(url: str, bucket: tuple[str, str] | None, folder: Path | None) -> None:
    settings = Settings(store_url=url)
    assert settings.bucket == bucket
    if folder is not None:
        assert settings.store_dir == folder


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("database_url", "mysql://u:hidden@h/db", "must start with postgresql:// or sqlite://, not mysql://"),
        ("database_url", "hidden", "must be a URL such as"),
        ("store_url", "gs://bucket", "not gs://"),
        ("store_url", "s3://", "must name a bucket"),
        ("store_url", "file://relative/folder", "must name a folder of this machine"),
        ("cache_bytes", "-1", "greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(name: str, value: str, reason: str) -> None:
    with pytest.raises(ValidationError):
        Settings(**{name: value})
    variable = f"TALKMILL_{name.upper()}"
    command = [sys.executable, "-m", "app.cli", "migrate"]
    env = {**os.environ, variable: value}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith(f"Error: {variable}: ")
    assert reason in line
    assert "hidden" not in line
