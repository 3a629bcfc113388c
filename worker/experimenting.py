"""Experiments in the background: once their jobs have ended, runs are scored on the same conversations and compared.

What follows is decided by the database's rows alone (`lead_on`), by whoever looks: the worker that has just finished a
part, or the sweeper. Scoring is a child process with the model; it sees no database.
"""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import reading, writing
from app.errors import ApiError
from app.experiments.repository import runs_of
from app.experiments.service import add_twin
from app.models import FINAL, Experiment, ExperimentRun, Job, Json, Version, Work
from app.process import start
from app.queue import add_work
from app.store import get_store
from app.training.folders import lay_out
from app.training.repository import files as job_files
from app.training.repository import model_files
from worker.curating import CannotBeDoneError, scratch
from worker.experiment_sets import hold_out_conversations
from worker.learning import run_child
from worker.leases import Lease, finish
from worker.run_config import lay_out_version

Runs = Sequence[tuple[ExperimentRun, Job]]
REFUSED = "trainer.config.ConfigError: "
"""How the last line of a process begins whose model cannot be opened."""
SAME_TOKENS = 0.98
"""A run that took so much of the longest run's tokens was as long."""


def lead_experiments_on() -> None:
    """Adds what follows in every experiment that has not ended, each in a transaction of its own."""
    with reading() as session:
        active = select(Experiment.id).where(Experiment.status.in_(("queued", "running"))).order_by(Experiment.id)
        ids = session.scalars(active).all()
    for experiment_id in ids:
        with writing() as session:
            lead_on(session, experiment_id)


def lead_on(session: Session, experiment_id: str) -> None:
    """Adds what follows, if anything does: runs as long in tokens, what is held out, scores, the report."""
    experiment = session.get_one(Experiment, experiment_id, with_for_update=True)
    if experiment.status in FINAL:
        return
    runs = runs_of(session, [experiment_id])[experiment_id]
    if any(job.status == "running" or job.status in FINAL for _, job in runs):
        experiment.status = "running"
    if any(job.status not in FINAL for _, job in runs):
        return
    good = [(run, job) for run, job in runs if job.status == "succeeded"]
    if not good:
        _fail(experiment, "none of its runs succeeded: " + "; ".join(sorted({_why(job) for _, job in runs})))
        return
    if experiment.request["evaluation"]["equal_tokens"] and _add_twins(session, experiment, runs):
        return
    done = _works(session, experiment_id)
    if not done["hold_out"]:
        add_work(session, "hold_out", experiment_id)
    if experiment.targets_sha256 is None:
        return
    for run, _ in good:
        if run.ordinal not in done["score"]:
            add_work(session, "score", experiment_id, ordinal=run.ordinal, queue="train")
    is_scored = all(done["score"].get(run.ordinal) in ("done", "dead") for run, _ in good)
    if is_scored and not done["report"]:
        add_work(session, "report", experiment_id)


def _add_twins(session: Session, experiment: Experiment, runs: Runs) -> bool:
    """Makes runs that took fewer tokens once more, until they take the most that one took; whether it did."""
    if any(run.budget == "tokens" for run, _ in runs):
        return False
    good = [(run, job) for run, job in runs if job.status == "succeeded" and job.trained_tokens]
    most = max((job.trained_tokens or 0 for _, job in good), default=0)
    shorter = [(run, job) for run, job in good if (job.trained_tokens or 0) < SAME_TOKENS * most]
    for place, (run, job) in enumerate(shorter):
        steps = round(job.progress["steps"] * most / (job.trained_tokens or 1))
        try:
            add_twin(session, experiment, run, len(runs) + place, steps)
        except ApiError as error:  # such as a base that is gone by now
            experiment.warnings = [*experiment.warnings, f"{run.name} (equal tokens) is not made: {error.detail}"]
            return False
    return bool(shorter)


def _works(session: Session, experiment_id: str) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {"hold_out": {}, "score": {}, "report": {}}
    for work in session.scalars(select(Work).where(Work.subject == experiment_id)):
        found[work.kind][work.ordinal] = work.state
    return found


def _why(job: Job) -> str:
    return job.error["message"] if job.error is not None else f"a job was {job.status}"


def _fail(experiment: Experiment, error: str) -> None:
    experiment.status, experiment.error, experiment.finished_at = "failed", error, time.time()


def fail_experiment(session: Session, lease: Lease, error: str) -> None:
    """What is held out, or the report, cannot be made."""
    experiment = session.get(Experiment, lease.subject, with_for_update=True)
    if experiment is not None and experiment.status not in FINAL:
        _fail(experiment, error)


def fail_run(session: Session, lease: Lease, error: str) -> None:
    """A run cannot be scored; the others are compared without it."""
    run = session.get(ExperimentRun, (lease.subject, lease.ordinal))
    if run is not None:
        run.error = f"not scored: {error}"


# ---- what is held out ----------------------------------------------------------------------------------------------


def hold_out(lease: Lease) -> None:
    """Finds the conversations that no run has learned, in every set, and the replies that all runs generate."""
    with reading() as session:
        experiment = session.get_one(Experiment, lease.subject)
        runs = [pair for pair in runs_of(session, [experiment.id])[experiment.id] if pair[1].status == "succeeded"]
        versions = {one["name"]: session.get_one(Version, one["version"]) for one in experiment.targets}
        held = [(session.get_one(Version, job.version_id), _held_out_of(session, job)) for _, job in runs]
    evaluation = experiment.request["evaluation"]
    replies, seed = max(evaluation["bleu_samples"], evaluation["review_samples"]), runs[0][1].config["run"]["seed"]
    with scratch() as folder:
        sets = {name: lay_out_version(version) for name, version in versions.items()}
        # What a file names to validate on is learned by no run, whatever else has the same id.
        learned = [] if evaluation["file"] else [(lay_out_version(version), names) for version, names in held]
        counts = hold_out_conversations(
            sets, set().union(*(names for _, names in held)), learned, folder / "targets.parquet",
            replies=replies, seed=seed,
        )  # fmt: skip
        blob = get_store().put_file(folder / "targets.parquet")
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise CannotBeDoneError(
            f"no conversation of {', '.join(empty)} was held out by every run: nothing to compare on"
        )
    with writing() as session:
        finish(session, lease, {"conversations": counts})
        session.get_one(Experiment, lease.subject, with_for_update=True).targets_sha256 = blob.sha256
        session.flush()
        lead_on(session, lease.subject)


def _held_out_of(session: Session, job: Job) -> set[str]:
    """The conversations that a run held out: those of which it has a loss."""
    found = [file for file in job_files(session, job.id) if file.name.startswith("evaluation/losses-step-")]
    if not found:
        return set()
    last = max(found, key=lambda file: int(Path(file.name).stem.rpartition("-")[2]))
    lines = get_store().path(last.sha256).read_bytes().splitlines()
    return {orjson.loads(line)["conversation_id"] for line in lines}


# ---- scores --------------------------------------------------------------------------------------------------------


def score_run(lease: Lease, lost: threading.Event) -> None:
    """Scores a run's last model on what was held out, at the source length of every run."""
    with reading() as session:
        experiment = session.get_one(Experiment, lease.subject)
        runs = [pair for pair in runs_of(session, [experiment.id])[experiment.id] if pair[1].status == "succeeded"]
        job = next(job for run, job in runs if run.ordinal == lease.ordinal)
        assert job.fine_tuned_model is not None
        files = model_files(session, job.fine_tuned_model)
    assert files is not None
    assert experiment.targets_sha256 is not None
    request = {
        "model": str(lay_out(files)), "conversations": str(get_store().path(experiment.targets_sha256)),
        "source_lengths": sorted({_data(other)["max_source_length"] for _, other in runs}),
        "max_target_length": min(_data(other)["max_target_length"] for _, other in runs),
        "max_new_tokens": min(other.resolved["evaluate"]["max_new_tokens"] for _, other in runs),
    }  # fmt: skip
    with scratch() as folder:
        facts = _score(request, folder, lost)
        blobs = {name: get_store().put_file(folder / f"{name}.parquet").sha256 for name in ("losses", "replies")}
    with writing() as session:
        session.get_one(Experiment, lease.subject, with_for_update=True)
        finish(session, lease, facts)
        run = session.get_one(ExperimentRun, (lease.subject, lease.ordinal))
        run.scores, run.error = {**facts, **blobs}, None
        session.flush()
        lead_on(session, lease.subject)


def _data(job: Job) -> dict[str, Any]:
    data: dict[str, Any] = job.resolved["data"]
    return data


def _score(request: Json, folder: Path, lost: threading.Event) -> Json:
    """Raises CannotBeDoneError where the model cannot be scored, LeaseLostError when it is somebody else's."""
    (folder / "request.json").write_bytes(orjson.dumps({**request, "out": str(folder)}))
    command = [sys.executable, "-m", "trainer.evaluation.target_scores", str(folder / "request.json")]
    log = folder / "log"
    status = run_child(start(command, log=log), lost)
    if status != 0:
        last = (log.read_text("utf-8", "replace").strip().splitlines() or [""])[-1]
        if last.startswith(REFUSED):
            raise CannotBeDoneError(last.removeprefix(REFUSED))
        raise ChildProcessError(f"the scoring process ended with status {status}")
    facts: Json = orjson.loads((folder / "facts.json").read_bytes())
    return {**facts, **{name: request[name] for name in ("source_lengths", "max_target_length")}}
