"""A finished version, made once for all tests of this folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_in_process import service_in_process
from versions_in_process import SCRIPT, WINDOWS, Service


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    env = {
        "TALKMILL_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "TALKMILL_BROKER_URL": "redis://127.0.0.1:1/0",
        "TALKMILL_SEGMENT_BYTES": "65536",
    }
    with service_in_process(env) as client:
        yield Service(client)


@pytest.fixture(scope="package")
def version(service: Service, examples: Path) -> dict[str, Any]:
    hostile = {"id": SCRIPT, "messages": [{"role": "user", "content": SCRIPT}, {"role": "assistant", "content": "好"}]}
    content = (examples / "dialogues.jsonl").read_bytes() + json.dumps(hostile).encode()
    made = service.version(content, WINDOWS, name="<b>calls.jsonl")
    assert made["status"] == "succeeded", made["error"]
    assert made["progress"]["shards_total"] > 2
    return made
