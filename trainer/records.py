"""What a run tells of itself: metrics, events and results, each a line that is whole or not there."""

import json
import time
from pathlib import Path
from typing import Any


class TrainingError(RuntimeError):
    """The run cannot succeed; the message is the reason that the user sees."""


class FaultError(TrainingError):
    """Something went wrong that may be mended without the user; `kind` is one of `trainer.recovery.faults`."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class DamagedCacheError(FaultError):
    """A file of the token cache is not what was written."""

    def __init__(self, reason: str) -> None:
        super().__init__("cache", reason)


class DamagedCheckpointError(FaultError):
    """A checkpoint cannot be read, or is not what was written."""

    def __init__(self, reason: str) -> None:
        super().__init__("checkpoint", reason)


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Appends one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A file's JSON lines; none where there is no file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def write_json(path: Path, value: object) -> None:
    """Writes JSON so that the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2), "utf-8")
    temporary.replace(path)


def event(run_dir: Path, message: str, *, level: str = "info", **data: Any) -> None:
    """Tells the run's reader what happened."""
    line = {"created_at": time.time(), "level": level, "message": message, "data": data}
    append_line(run_dir / "events.jsonl", line)


def drop_torn_line(path: Path) -> None:
    """Removes a last line that a power cut left without its end."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        whole = file.read().rpartition(b"\n")
        if whole[2]:
            file.truncate(len(whole[0]) + len(whole[1]))


def cut_back(path: Path, last_step: int) -> None:
    """Removes the metrics of steps that a rollback undoes."""
    if not path.exists():
        return
    kept = [line for line in path.read_text("utf-8").splitlines() if json.loads(line)["step"] <= last_step]
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text("".join(f"{line}\n" for line in kept), "utf-8")
    temporary.replace(path)
