"""What a run directory gains, copied into the database in batches: metrics, events, evaluations, checkpoints, recovery.

Each batch is one transaction, held to the lease: a supervisor whose job was taken over writes nothing any more. A batch
that an outage of the database prevented is copied with the next one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.crash import crash_point
from app.db import insert, reading, writing
from app.models import Job, JobCheckpoint, JobEvaluation, JobEvent, JobMetric, Json, new_id
from worker.leases import Lease, check_held
from worker.origins import Origins
from worker.pace import Pace
from worker.publishing import forget_evaluations, offer, stored_evaluations
from worker.tails import Lines, Tail


@dataclass(frozen=True)
class StoredCheckpoint:
    """A complete checkpoint whose files the store has."""

    step: int
    quality: Json
    files: list[Json]


class Mirror:
    """Copies one run directory under one lease."""

    def __init__(self, lease: Lease, run_dir: Path, origins: Origins) -> None:
        self._lease = lease
        self._job_id = lease.subject
        self._run_dir = run_dir
        self._origins = origins
        self._metrics = Tail(run_dir / "metrics.jsonl")
        self._events = Tail(run_dir / "events.jsonl")
        self._evaluations = Tail(run_dir / "evaluations.jsonl")
        self._recovery = Tail(run_dir / "recovery.jsonl")
        with reading() as session:
            self._num_events = len(mirrored_events(session, self._job_id))
        self._num_lines = 0
        self._checkpoints: list[StoredCheckpoint] = []
        self._pace = Pace()
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
        evaluations, recovery = self._evaluations.look(), self._recovery.look()
        # Told already by an earlier owner, whose directory this is.
        new_events = events.lines[max(0, self._num_events - self._num_lines) :]
        looks = (metrics, evaluations, recovery)
        if not (any(look.is_new for look in looks) or new_events or self._checkpoints):
            return
        evaluated = stored_evaluations(self._run_dir, [line["step"] for line in evaluations.lines])
        with writing() as session:
            check_held(session, self._lease)
            job = session.get_one(Job, self._job_id)
            if metrics.from_start:
                undone = (JobMetric.job_id == self._job_id, JobMetric.step > _last_step(metrics))
                session.execute(delete(JobMetric).where(*undone))
            for look in (metrics, evaluations):  # a rollback undoes evaluations too
                if look.from_start:
                    forget_evaluations(session, self._job_id, _last_step(look))
            self._put_steps(session, JobMetric, metrics)
            self._put_steps(session, JobEvaluation, evaluations)
            offer(session, self._job_id, evaluated)
            self._add_events(session, new_events)
            if self._checkpoints or metrics.from_start or recovery.is_new:
                self._put_checkpoints(session)
            self._describe(job)
            if recovery.is_new:
                cures = [self._origins.told(line) for line in recovery.lines]
                job.recovery = cures if recovery.from_start else [*job.recovery, *cures]
            if self._checkpoints:
                crash_point("train_checkpoint_seen")
            if metrics.lines:
                job.progress = self._progress(metrics.lines, job.progress)
        self._checkpoints = []
        for tail, look in zip((self._metrics, self._evaluations, self._recovery), looks, strict=True):
            tail.accept(look)
        self._events.accept(events)
        self._num_lines += len(events.lines)
        self._num_events += len(new_events)

    def _progress(self, lines: Sequence[Json], before: Json) -> Json:
        self._pace.see(lines)
        last = lines[-1]
        steps = last.get("steps", before.get("steps"))
        left = self._pace.seconds_left(steps - last["step"]) if steps is not None else None
        return {
            "step": last["step"],
            "steps": steps,
            "tokens": last.get("total_tokens", 0),
            "tokens_per_second": self._pace.tokens_per_second,
            "estimated_finish": None if left is None else round(time.time() + left),
        }

    def _put_steps(self, session: Session, table: type[JobMetric] | type[JobEvaluation], found: Lines) -> None:
        """A step that is done once more, after a takeover or a rollback, replaces what it was before."""
        if not found.lines:
            return
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=[table.job_id, table.step], set_={"data": statement.excluded.data}
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
        """Those that the run has pruned stay listed, without their files; those that it has undone go."""
        present = {int(path.name.removeprefix("step-")) for path in self._run_dir.glob("checkpoints/step-*")}
        mine = select(JobCheckpoint).where(JobCheckpoint.job_id == self._job_id)
        rows = {row.step: row for row in session.scalars(mine)}
        for checkpoint in self._checkpoints:
            row = rows.get(checkpoint.step)
            if row is None:
                row = JobCheckpoint(id=new_id("ftckpt"), job_id=self._job_id, step=checkpoint.step)
                session.add(row)
                rows[checkpoint.step] = row
            row.metrics, row.files = checkpoint.quality, checkpoint.files
        for step in [step for step in rows if step > max(present, default=step)]:
            session.delete(rows.pop(step))
        if not self._checkpoints:
            return
        keep = orjson.loads((self._run_dir / "config.json").read_bytes())["checkpoint"]["keep"]
        stored = sorted(step for step, row in rows.items() if row.files and step != 0)
        for step in stored[:-keep]:  # as many newer ones are stored: the run can go on from them elsewhere
            if step not in present:
                rows[step].files = []

    def _describe(self, job: Job) -> None:
        """The resolved config and the architecture, once the trainer has written them."""
        config, architecture = self._run_dir / "config.json", self._run_dir / "architecture.json"
        if self._described or not (config.exists() and architecture.exists()):
            return
        job.resolved = _without_paths(orjson.loads(config.read_bytes()), job.config)
        job.architecture = orjson.loads(architecture.read_bytes())
        self._described = True


def _last_step(found: Lines) -> int:
    return int(found.lines[-1]["step"]) if found.lines else 0


def mirrored_events(session: Session, job_id: str) -> list[Json]:
    """The lines of the run's own events that are in the database, in their order."""
    prefix = _event_prefix(job_id)
    found = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id.like(f"{prefix}%"))
    rows = sorted(session.scalars(found), key=lambda row: int(row.id.removeprefix(prefix)))
    return [{name: getattr(row, name) for name in ("created_at", "level", "message", "data")} for row in rows]


def _event_prefix(job_id: str) -> str:
    return f"ftevent-{job_id.removeprefix('ftjob-')}-"


def _without_paths(config: Json, asked: Json) -> Json:
    """The resolved settings, in which versions have ids."""
    data = {key: value for key, value in config["data"].items() if key not in ("version", "validation", "cache_dir")}
    named = asked.get("data", {}).get("mix", [])
    data["mix"] = [
        {**source, "version": known["version"]} for source, known in zip(data.get("mix", []), named, strict=True)
    ]
    model = {key: value for key, value in config["model"].items() if key != "base"}
    return {**config, "data": data, "model": model}
