"""What a run directory gains, copied into the database in batches: metrics, events, checkpoints.

Each batch is one transaction, held to the lease: a supervisor whose job was taken over writes nothing any more. A batch
that an outage of the database prevented is copied with the next one.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import insert, reading, writing
from app.models import Job, JobCheckpoint, JobEvent, JobMetric, Json, new_id
from worker.leases import Lease, check_held


@dataclass(frozen=True)
class StoredCheckpoint:
    """A complete checkpoint whose files the store has."""

    step: int
    quality: Json
    files: list[Json]


class Mirror:
    """Copies one run directory under one lease."""

    def __init__(self, lease: Lease, run_dir: Path) -> None:
        self._lease = lease
        self._job_id = lease.subject
        self._run_dir = run_dir
        self._metrics = Tail(run_dir / "metrics.jsonl")
        self._events = Tail(run_dir / "events.jsonl")
        with reading() as session:
            self._num_events = len(mirrored_events(session, self._job_id))
        self._num_lines = 0
        self._checkpoints: list[StoredCheckpoint] = []
        self._described = False

    def wanted(self) -> str | None:
        """What the user asks of the job."""
        with reading() as session:
            return session.scalar(select(Job.wanted).where(Job.id == self._job_id))

    def copy(self, checkpoints: Sequence[StoredCheckpoint] = ()) -> None:
        """Copies what is new; writes nothing when nothing is.

        A checkpoint is given here only after it was complete, so its steps' metrics are in the same batch or before.

        Raises:
            LeaseLostError: the job belongs to somebody else.
            OperationalError: the database is away; nothing was copied.
        """
        self._checkpoints += checkpoints
        metrics, events = self._metrics.look(), self._events.look()
        # Told already by an earlier owner, whose directory this is.
        new_events = events.lines[max(0, self._num_events - self._num_lines) :]
        if not (metrics.is_new or new_events or self._checkpoints):
            return
        with writing() as session:
            check_held(session, self._lease)
            self._put_metrics(session, metrics)
            self._add_events(session, new_events)
            self._put_checkpoints(session)
            job = session.get_one(Job, self._job_id)
            self._describe(job)
            if self._checkpoints:
                crash_point("train_checkpoint_seen")
            if metrics.lines:
                last = metrics.lines[-1]
                job.progress = {
                    "step": last["step"],
                    "steps": last.get("steps", job.progress.get("steps")),
                    "tokens": last.get("total_tokens", 0),
                    "tokens_per_second": last["tokens_per_second"],
                }
        self._checkpoints = []
        self._metrics.accept(metrics)
        self._events.accept(events)
        self._num_lines += len(events.lines)
        self._num_events += len(new_events)

    def _put_metrics(self, session: Session, found: "Lines") -> None:
        """A step that is done once more, after a takeover or a rollback, replaces what it was before."""
        if found.from_start:
            last = found.lines[-1]["step"] if found.lines else 0
            beyond = (JobMetric.job_id == self._job_id, JobMetric.step > last)
            session.execute(delete(JobMetric).where(*beyond))
        if not found.lines:
            return
        statement = insert(JobMetric)
        statement = statement.on_conflict_do_update(
            index_elements=[JobMetric.job_id, JobMetric.step], set_={"data": statement.excluded.data}
        )
        rows = {line["step"]: {"job_id": self._job_id, "step": line["step"], "data": line} for line in found.lines}
        session.execute(statement, list(rows.values()))

    def _add_events(self, session: Session, lines: Sequence[Json]) -> None:
        if not lines:
            return
        rows = [
            {
                "id": f"{_event_prefix(self._job_id)}{number}",
                "job_id": self._job_id,
                "level": line.get("level", "info"),
                "message": line["message"],
                "data": line.get("data") or {},
                "created_at": line["created_at"],
            }
            for number, line in enumerate(lines, self._num_events + 1)
        ]
        session.execute(insert(JobEvent), rows)

    def _put_checkpoints(self, session: Session) -> None:
        """Those that the run itself would have pruned stay listed, without their files."""
        if not self._checkpoints:
            return
        mine = select(JobCheckpoint).where(JobCheckpoint.job_id == self._job_id)
        rows = {row.step: row for row in session.scalars(mine)}
        for checkpoint in self._checkpoints:
            row = rows.get(checkpoint.step)
            if row is None:
                row = JobCheckpoint(id=new_id("ftckpt"), job_id=self._job_id, step=checkpoint.step)
                session.add(row)
                rows[checkpoint.step] = row
            row.metrics, row.files = checkpoint.quality, checkpoint.files
        keep = orjson.loads((self._run_dir / "config.json").read_bytes())["checkpoint"]["keep"]
        stored = sorted(step for step, row in rows.items() if row.files and step != 0)
        for step in stored[:-keep]:
            rows[step].files = []

    def _describe(self, job: Job) -> None:
        """The resolved config and the architecture, once the trainer has written them."""
        config, architecture = self._run_dir / "config.json", self._run_dir / "architecture.json"
        if self._described or not (config.exists() and architecture.exists()):
            return
        job.resolved = _without_paths(orjson.loads(config.read_bytes()))
        job.architecture = orjson.loads(architecture.read_bytes())
        self._described = True


@dataclass(frozen=True)
class Lines:
    """What a look at a JSONL file found; `from_start` where the file is another one than at the last look."""

    lines: list[Json]
    from_start: bool
    inode: int | None
    end: int

    @property
    def is_new(self) -> bool:
        return bool(self.lines) or self.from_start


class Tail:
    """The complete lines that a JSONL file gained; all of them again when it was cut back, which replaces the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._offset = 0

    def look(self) -> Lines:
        """What came since the last accepted look; a line that is still being written waits for the next."""
        try:
            with self._path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                from_start = inode != self._inode
                start = 0 if from_start else self._offset
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return Lines([], from_start=False, inode=self._inode, end=self._offset)
        complete = data[: data.rfind(b"\n") + 1]
        lines = [orjson.loads(line) for line in complete.splitlines()]
        return Lines(lines, from_start=from_start, inode=inode, end=start + len(complete))

    def accept(self, found: Lines) -> None:
        """The lines are where they belong: the next look goes on behind them."""
        self._inode, self._offset = found.inode, found.end


def mirrored_events(session: Session, job_id: str) -> list[Json]:
    """The lines of the run's own events that are in the database, in their order."""
    prefix = _event_prefix(job_id)
    found = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id.like(f"{prefix}%"))
    rows = sorted(session.scalars(found), key=lambda row: int(row.id.removeprefix(prefix)))
    return [{name: getattr(row, name) for name in ("created_at", "level", "message", "data")} for row in rows]


def _event_prefix(job_id: str) -> str:
    return f"ftevent-{job_id.removeprefix('ftjob-')}-"


def _without_paths(config: Json) -> Json:
    data = {key: value for key, value in config["data"].items() if key not in ("version", "validation", "cache_dir")}
    model = {key: value for key, value in config["model"].items() if key != "base"}
    return {**config, "data": data, "model": model}
