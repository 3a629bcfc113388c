"""A large upload costs disk, not memory."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running_stack import RunningStack

GIGABYTE = 10**9
ALLOWED_BYTES = 50 * 10**6


class PeakMemory(threading.Thread):
    """The most resident memory of a process while the block runs, beyond what it had at its beginning."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._before = self._peak = self._process.memory_info().rss

    def run(self) -> None:
        while not self._over.wait(0.02):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __enter__(self) -> "PeakMemory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    @property
    def growth(self) -> int:
        return self._peak - self._before


@pytest.fixture
def zeros(stack: RunningStack, tmp_path: Path) -> Iterator[Path]:
    """A large file of nothing: its ingest ends at once, so that only the upload is measured.

    The S3 server of the tests takes four minutes for a gigabyte, so it gets less; the memory that counts is ours.
    """
    path = tmp_path / "zeros.jsonl"
    with path.open("wb") as file:
        file.truncate(GIGABYTE if (stack.folder / "store").exists() else GIGABYTE // 10)
    yield path
    path.unlink()


def test_a_large_upload_leaves_the_memory_of_the_api_alone(stack: RunningStack, zeros: Path) -> None:
    size = zeros.stat().st_size
    stack.upload("first.jsonl", b'{"messages":[]}')
    with PeakMemory(stack.state["processes"]["api"]) as memory:
        with zeros.open("rb") as content:
            form = {"files": {"file": ("zeros.jsonl", content)}, "data": {"purpose": "conversations"}}
            response = stack.http.post("/files", **form, timeout=300)  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        assert response.json()["bytes"] == size
        file = stack.ended(f"/files/{response.json()['id']}")
        assert file["status"] == "error"
        assert "binary" in file["status_details"]
        with stack.http.stream("GET", f"/files/{file['id']}/content") as answer:
            assert sum(len(chunk) for chunk in answer.iter_bytes()) == size
    assert memory.growth < ALLOWED_BYTES
    assert stack.http.delete(f"/files/{file['id']}").status_code == 200
