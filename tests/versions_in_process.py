"""Versions made and asked for in the test's own process."""

from typing import Any

from fastapi.testclient import TestClient
from service_in_process import do_pending_work

WINDOWS = {
    "operators": [
        {"kind": "structure_dialogue"},
        {"kind": "smooth_disfluency"},
        {"kind": "tag_users"},
        {"kind": "match_sensitive_words", "words": ["百家乐"], "action": "mask"},
        {"kind": "truncate_history", "mode": "windows", "max_source_length": 128, "max_target_length": 64},
    ]
}


SCRIPT = "<script>alert(1)</script> | 呃，`code` [x](y)"


class Service:
    """The application with a client that may do everything, and its workers' part done in this process."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.dataset = self.client.post("/v1/datasets", json={"name": "calls"}).json()["id"]

    def version(self, content: bytes, recipe: dict[str, Any] | None = None, name: str = "a.jsonl") -> dict[str, Any]:
        form = {"purpose": "conversations"}
        file = self.client.post("/v1/files", files={"file": (name, content)}, data=form).json()
        body = {"files": [file["id"]], "recipe": recipe}
        made = self.client.post(f"/v1/datasets/{self.dataset}/versions", json=body).json()
        do_pending_work()
        return self.get(f"/v1/versions/{made['id']}")

    def get(self, path: str, **params: Any) -> Any:
        answer = self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()
