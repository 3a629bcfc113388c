"""The clients that people have: `openai` sends a file in parts, and `datasets`, polars and DuckDB read a version."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import polars as pl
import pytest
from running_stack import RunningStack

pytestmark = pytest.mark.parametrize("stack", ["embedded"], indirect=True)


@pytest.fixture(scope="module")
def version(stack: RunningStack, examples: Path) -> dict[str, Any]:
    file = stack.upload("dialogues.jsonl", (examples / "dialogues.jsonl").read_bytes())
    return stack.version(file["id"])


def test_the_openai_client_sends_a_file_in_parts(stack: RunningStack, examples: Path) -> None:
    key = stack.authorization["Authorization"].removeprefix("Bearer ")
    content = (examples / "dialogues.jsonl").read_bytes()
    with openai.OpenAI(base_url=str(stack.http.base_url), api_key=key) as client:
        upload = client.uploads.upload_file_chunked(
            file=examples / "dialogues.jsonl", mime_type="application/jsonl", purpose="fine-tune", part_size=20_000,
            md5=hashlib.md5(content).hexdigest(),
        )  # fmt: skip
        assert upload.status == "completed"
        assert upload.file is not None
        stack.ended(f"/files/{upload.file.id}")
        file = client.files.retrieve(upload.file.id)
        assert (file.status, file.bytes, file.filename) == ("processed", len(content), "dialogues.jsonl")
        assert client.files.content(file.id).read() == content

        begun = client.uploads.create(filename="a", purpose="fine-tune", bytes=9, mime_type="text/plain")
        part = client.uploads.parts.create(begun.id, data=b"123")
        with pytest.raises(openai.BadRequestError, match="9 were announced"):
            client.uploads.complete(begun.id, part_ids=[part.id])
        assert client.uploads.cancel(begun.id).status == "cancelled"
        assert client.files.delete(file.id).deleted


def test_datasets_polars_and_duckdb_read_a_version(
    stack: RunningStack, version: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    import datasets
    import duckdb
    from fsspec.implementations.http import HTTPFileSystem

    class Http(HTTPFileSystem):
        """In place of DuckDB's extension `httpfs`, which it would have to fetch from the internet."""

        def modified(self, path: str) -> datetime:
            return datetime(2026, 1, 1, tzinfo=UTC)

    urls = [part["url"] for part in stack.get(f"/versions/{version['id']}/parquet")["data"]]
    ids = [one["id"] for one in stack.get(f"/versions/{version['id']}/conversations", limit=1000)["data"]]
    assert pl.scan_parquet(urls).select("id").collect()["id"].to_list() == ids

    loaded = datasets.load_dataset("parquet", data_files=urls, split="train", cache_dir=str(tmp_path))
    assert loaded["id"] == ids
    assert {turn["role"] for turn in loaded[0]["messages"]} <= {"system", "user", "assistant"}

    with duckdb.connect() as database:
        database.register_filesystem(Http())
        counted = "SELECT count(*), sum(len(messages)) FROM read_parquet(?)"
        rows, messages = database.execute(counted, [urls]).fetchone() or (0, 0)
    assert (rows, messages) == (len(ids), sum(len(one["messages"]) for one in loaded))
