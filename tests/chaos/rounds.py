"""A passage of the scenario over a stack that is being hurt, as a patient client drives it."""

import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from chaos.arena import Arena
from chaos.scenario import HYPERPARAMETERS, TRAINER

PATIENCE_S = 120.0
"""How long a fault may hold things up before it counts as a loss."""
ENDED = ("processed", "error", "succeeded", "failed", "cancelled")


class Loss(AssertionError):
    """Something was lost, stuck, doubled, half published, or needs a hand."""


@dataclass
class Round:
    """What one passage made."""

    number: int
    files: list[str] = field(default_factory=list)
    dataset: str = ""
    version: str = ""
    classifier: str | None = None
    job: str | None = None


class Client:
    """Asks until it is answered: no answer, 5xx and a 409 that asks for another try are tried again, as one request."""

    def __init__(self, arena: Arena) -> None:
        self._http = arena.stack.http
        self.until = time.monotonic() + PATIENCE_S

    def post(self, path: str, key: str, **request: Any) -> dict[str, Any]:
        """The resource that a POST under this Idempotency-Key made."""
        return self._ask("POST", path, headers={"Idempotency-Key": key}, **request)

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """A resource or a page."""
        return self._ask("GET", path, params=params)

    def ended(self, path: str) -> dict[str, Any]:
        """A resource, once it has ended."""
        while (found := self.get(path))["status"] not in ENDED:
            if time.monotonic() > self.until:
                raise Loss(f"{path.split('/')[1]} is still {found['status']} after {PATIENCE_S:.0f} s")
            time.sleep(0.1)
        return found

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        while True:
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                said = type(error).__name__
            else:
                if answer.is_success:
                    found: dict[str, Any] = answer.json()
                    return found
                said = f"{answer.status_code} {answer.text[:200]}"
                again = answer.status_code == 409 and answer.headers.get("x-should-retry") != "false"
                if answer.status_code < 500 and not again:
                    raise Loss(f"{method} {path.split('/')[1]}: {said}")
            if time.monotonic() > self.until:
                raise Loss(f"{method} {path.split('/')[1]}: {said} after {PATIENCE_S:.0f} s")
            time.sleep(0.1)


def train_classifier(arena: Arena, number: int) -> str:
    """Uploads the labels and has a classifier trained from them; returns its id."""
    client = Client(arena)
    file = _upload(client, f"labels-{number}", "labels.jsonl", arena.scenario.labels, "labels")
    body = {"name": f"rude-{number}", "file": file, "hyperparameters": HYPERPARAMETERS}
    made: str = client.post("/classifiers", f"classifier-{number}", json=body)["id"]
    return made


def begin(arena: Arena, classifier: str) -> Round:
    """Uploads the files and asks for their version at once; returns without waiting for either."""
    arena.num_rounds += 1
    made = Round(arena.num_rounds)
    client = Client(arena)
    for index, (name, content) in enumerate(arena.scenario.files(made.number)):
        made.files.append(_upload(client, f"file-{made.number}-{index}", name, content, "conversations"))
    made.dataset = client.post("/datasets", f"dataset-{made.number}", json={"name": f"round {made.number}"})["id"]
    body = {"files": made.files, "recipe": arena.scenario.recipe(classifier, made.number)}
    path = f"/datasets/{made.dataset}/versions"
    made.version = client.post(path, f"version-{made.number}", json=body)["id"]
    return made


def begin_training(arena: Arena, version: str, number: int) -> str:
    """Asks for a short training run on a version; returns its id."""
    body = {"model": "scratch:tiny", "training_file": version, "trainer": TRAINER}
    made: str = Client(arena).post("/fine_tuning/jobs", f"job-{number}", json=body)["id"]
    return made


def _upload(client: Client, key: str, name: str, content: bytes, purpose: str) -> str:
    made: str = client.post("/files", key, files={"file": (name, content)}, data={"purpose": purpose})["id"]
    return made
