"""The report of an experiment: numbers of all sets, facts of the runs, samples side by side, a review to be judged."""

import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import orjson
import polars as pl
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import reading, writing
from app.experiments.comparing import Arm, compare_set
from app.experiments.conclusions import conclude
from app.experiments.grid import Point, name_in
from app.experiments.repository import runs_of
from app.experiments.set_scores import ScoredRun, SetScores
from app.models import Experiment, ExperimentRun, Job, JobMetric, Json
from app.reviews.service import Answered, create_from_replies
from app.store import get_store
from app.training.repository import evaluations
from curation.prompts import Prompt
from worker.curating import CannotBeDoneError
from worker.leases import Lease, finish

ALL_PAIRS = 4
"""So many arms are all compared with each other; of more, each with the first."""
SHOWN_TURNS = 4
SHOWN_SAMPLES = 12
Runs = Sequence[tuple[ExperimentRun, Job]]


def report(lease: Lease) -> None:
    """Compares the scored runs, and lets the experiment succeed."""
    with reading() as session:
        experiment = session.get_one(Experiment, lease.subject)
        runs = runs_of(session, [experiment.id])[experiment.id]
        facts = [_facts(session, run, job) for run, job in runs]
    scored = [(run, job) for run, job in runs if run.scores is not None]
    if not scored:
        raise CannotBeDoneError("no run could be scored: " + "; ".join(sorted({run.error or "" for run, _ in runs})))
    sets = _sets(experiment, scored)
    if empty := [one.name for one in sets if one.targets.is_empty()]:
        raise CannotBeDoneError(f"no reply of {', '.join(empty)} is one that every run could be scored on")
    arms = _arms(experiment.request["grid"], scored)
    pairs = _pairs(arms, facts)
    by = experiment.request["evaluation"]["by"]
    body: Json = {
        "object": "experiment.report", "experiment": experiment.id, "name": experiment.name,
        "created_at": int(experiment.created_at), "request": experiment.request,
        "warnings": experiment.warnings,
        "unit": "token" if sets[0].per_token else "character", "runs": facts,
        "sets": [compare_set(one, arms, pairs, by) for one in sets],
    }  # fmt: skip
    headline = {run["ordinal"]: run for run in body["sets"][0]["runs"]}
    for run in facts:
        found = headline.get(run["ordinal"], {"loss": None, "text": {}})
        run["validation_loss"], run["text"] = found["loss"], found["text"]
    samples = [row for one in sets for row in _samples(one)]
    body["samples"] = [row for row in samples if row["set"] == sets[0].name][:SHOWN_SAMPLES]
    body["conclusions"] = conclude(body)
    blobs = [get_store().put(BytesIO(orjson.dumps(one))) for one in (body, samples)]
    with writing() as session:
        experiment = session.get_one(Experiment, lease.subject, with_for_update=True)
        finish(session, lease, {})
        experiment.report_sha256, experiment.samples_sha256 = (blob.sha256 for blob in blobs)
        experiment.review_id = _review(session, experiment, scored, sets[0])
        experiment.status, experiment.finished_at = "succeeded", time.time()


def _facts(session: Session, run: ExperimentRun, job: Job) -> Json:
    """What a run was, took and cost, as its job tells it."""
    steps = list(session.scalars(select(JobMetric.data).where(JobMetric.job_id == job.id).order_by(JobMetric.step)))
    tokens = {line["step"]: line["total_tokens"] for line in steps}
    curve = [
        [tokens[line["step"]], line["validation_loss"]]
        for line in evaluations(session, job.id)
        if line.get("validation_loss") is not None and line["step"] in tokens
    ]
    data = job.resolved.get("data", {})
    return {
        "ordinal": run.ordinal, "name": run.name, "settings": run.settings, "budget": run.budget, "job": job.id,
        "model": job.fine_tuned_model, "version": job.version_id, "status": job.status,
        "error": run.error or (None if job.error is None else job.error["message"]),
        "scored": run.scores is not None, "seed": job.config["run"]["seed"],
        "max_source_length": data.get("max_source_length"), "max_target_length": data.get("max_target_length"),
        "steps": len(steps), "tokens": job.trained_tokens or 0,
        "target_tokens": sum(line.get("target_tokens", 0) for line in steps),
        "seconds": round(sum(line["tokens"] / max(line["tokens_per_second"], 1e-9) for line in steps), 1),
        "peak_memory_bytes": max((line.get("peak_memory_bytes", 0) for line in steps), default=0), "curve": curve,
    }  # fmt: skip


def _sets(experiment: Experiment, scored: Runs) -> list[SetScores]:
    assert experiment.targets_sha256 is not None
    store = get_store()
    rows = pl.read_parquet(store.path(experiment.targets_sha256)).with_row_index("row").cast({"row": pl.Int32})
    runs = [_read(run, job) for run, job in scored]
    per_token = len({run.tokenizer for run in runs}) == 1
    seed = scored[0][1].config["run"]["seed"]
    return [
        SetScores(one["name"], rows.filter(pl.col("set") == one["name"]), runs, seed % 2**32, per_token)
        for one in experiment.targets
    ]


def _read(run: ExperimentRun, job: Job) -> ScoredRun:
    assert run.scores is not None
    losses, replies = (pl.read_parquet(get_store().path(run.scores[name])) for name in ("losses", "replies"))
    data = job.resolved["data"]
    return ScoredRun(
        run.ordinal, data["max_source_length"], data["max_target_length"], run.scores["tokenizer"], losses, replies
    )  # fmt: skip


def _arms(grid: Json, scored: Runs) -> list[Arm]:
    """Runs by their settings, the seed aside."""
    arms: dict[bytes, Arm] = {}
    for run, _ in scored:
        point = Point(run.settings)
        key = orjson.dumps([point.without_seed, run.budget], option=orjson.OPT_SORT_KEYS)
        name = name_in(grid, point.without_seed) + (" (equal tokens)" if run.budget == "tokens" else "")
        arms.setdefault(key, Arm(name, point.without_seed, run.budget, [])).runs.append(run.ordinal)
    return list(arms.values())


def _pairs(arms: Sequence[Arm], facts: Sequence[Json]) -> list[tuple[Arm, Arm]]:
    """Which arms are compared: those of equal epochs, then those of equal tokens with the one that took the most."""
    epochs, tokens = ([arm for arm in arms if arm.budget == budget] for budget in ("epochs", "tokens"))
    if len(epochs) <= ALL_PAIRS:
        pairs = [(left, right) for place, left in enumerate(epochs) for right in epochs[place + 1 :]]
    else:
        pairs = [(epochs[0], other) for other in epochs[1:]]
    if epochs and tokens:
        longest = max(epochs, key=lambda arm: facts[arm.runs[0]]["tokens"])
        pairs += [(arm, longest) for arm in tokens]
    return pairs


def _samples(one: SetScores) -> list[Json]:
    """Every reply that was generated, beside the one that was given; those after a long history first."""
    sizes = one.runs[0].losses.select("row", "turn", "history_tokens").unique(["row", "turn"])
    rows = one.replies.join(sizes, on=["row", "turn"], how="left")
    found = []
    for row in rows.sort("history_tokens", descending=True, nulls_last=True).iter_rows(named=True):
        history = [
            {"role": turn["role"], "content": turn["content"]} for turn in row["messages"][: row["turn"]][-SHOWN_TURNS:]
        ]
        generated = {str(run.ordinal): row[run.column(run.source_length)] for run in one.runs}
        found.append(
            {
                "set": one.name, "conversation_id": row["conversation_id"], "turn": row["turn"],
                "history_tokens": row["history_tokens"], "turns_before": max(0, row["turn"] - SHOWN_TURNS),
                "history": history, "reference": row["reference"], "generated": generated,
            }
        )  # fmt: skip
    return found


def _review(session: Session, experiment: Experiment, scored: Runs, one: SetScores) -> str | None:
    """A review of the first and the last run of equal epochs, of as many replies as wanted; its id."""
    wanted = experiment.request["evaluation"]["review_samples"]
    sides = [(run, job) for run, job in scored if run.budget == "epochs"]
    if not wanted or len(sides) < 2 or one.replies.is_empty():
        return None
    (left, left_job), (right, right_job) = sides[0], sides[-1]
    pairs: dict[str, Answered] = {}
    for row in one.replies.iter_rows(named=True):
        said: list[dict[str, Any]] = row["messages"][: row["turn"]]
        if said[-1]["role"] != "user" or len(pairs) == wanted:
            continue
        messages = tuple({"role": turn["role"], "content": turn["content"]} for turn in said)
        prompt = Prompt(row["conversation_id"], messages, row["reference"])
        answers = (row[f"run_{run.ordinal}"] for run in (left, right))
        pairs.setdefault(prompt.conversation_id, Answered(prompt, *answers))
    if not pairs:
        return None
    assert left_job.fine_tuned_model is not None
    assert right_job.fine_tuned_model is not None
    review = create_from_replies(
        session, name=f"{experiment.name}: {left.name} and {right.name}", left=left_job.fine_tuned_model,
        right=right_job.fine_tuned_model, pairs=list(pairs.values()), seed=one.seed,
    )  # fmt: skip
    return review.id
