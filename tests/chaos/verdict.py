"""Whether anything was lost: read from the API, and behind its back from the database and the store."""

import hashlib
import time
from typing import Any

import orjson
from chaos.arena import Arena
from chaos.rounds import Client, Loss, Round
from chaos.scenario import TRAINER, adds_up
from sqlalchemy import func, select

from app.models import File, Job, JobFile, JobMetric, LearnedFilter, Outbox, Version, Work

SETTLE_S = 60.0
"""How long nudges may wait and work stay open after a version has ended."""


def judge(arena: Arena, made: Round) -> None:
    """Waits for the round's end.

    Raises:
        Loss: it is not as if nothing had happened.
    """
    client = Client(arena)
    as_of = client.get(f"/versions/{made.version}")["as_of"]
    expected = arena.scenario.expected(made.number, as_of)  # while the service is at it
    version = client.ended(f"/versions/{made.version}")
    _demand(version["status"] == "succeeded", f"the version has {version['status']}: {version['error']}")
    _demand(version["digest"] == expected.manifest["digest"], "the version has another digest than undisturbed")
    _demand(version["counts"] == expected.manifest["counts"], "the version's counts are not those of undisturbed")
    _demand(adds_up(version["counts"]), "the version's counts do not add up")
    versions = client.get(f"/datasets/{made.dataset}/versions")["data"]
    _demand([one["id"] for one in versions] == [made.version], "one request made several versions")
    for file, (_, content), wanted in zip(made.files, arena.scenario.files(made.number), expected.files, strict=True):
        counts = client.get(f"/files/{file}")["counts"]
        _demand(counts == {name: wanted[name] for name in counts}, "a file's counts are not those of undisturbed")
        total = counts["conversations"] + counts["quarantined"]
        _demand(total == arena.scenario.num_records(content), "a file's counts do not add up")
    if made.classifier is not None:
        judge_classifier(arena, made.classifier)
    judge_rest(arena)
    _judge_blobs(arena, made)


def judge_classifier(arena: Arena, classifier: str) -> None:
    """A classifier is the one that the labels give."""
    row = Client(arena).ended(f"/classifiers/{classifier}")
    _demand(row["status"] == "succeeded", f"the classifier has {row['status']}: {row['error']}")
    _demand(row["digest"] == arena.scenario.classifier_digest, "the classifier has another digest than undisturbed")
    with arena.session() as session:
        artefact = session.get_one(LearnedFilter, classifier).artefact_sha256
    _demand(artefact is not None, "a classifier has succeeded without its artefact")
    _read(arena, str(artefact))


def judge_job(arena: Arena, job: str) -> list[float]:
    """A training run went through every step once, and its model is whole; returns its losses."""
    row = Client(arena).ended(f"/fine_tuning/jobs/{job}")
    _demand(row["status"] == "succeeded", f"the job has {row['status']}: {row['error']}")
    with arena.session() as session:
        lines = session.scalars(select(JobMetric).where(JobMetric.job_id == job).order_by(JobMetric.step)).all()
        files = session.scalars(select(JobFile).where(JobFile.job_id == job)).all()
    steps = list(range(1, TRAINER["run"]["max_steps"] + 1))
    _demand([line.step for line in lines] == steps, f"the job tells steps {[line.step for line in lines]}")
    names = {file.name for file in files}
    _demand({"config.json", "model.safetensors", "tokenizer.json"} <= names, f"the model has only {sorted(names)}")
    for file in files:
        _demand(len(_read(arena, file.sha256)) == file.bytes, f"the model's {file.name} has another size")
    judge_rest(arena)
    return [float(line.data["loss"]) for line in lines]


def judge_rest(arena: Arena) -> None:
    """Nothing is open, buried or waiting to be sent, and nothing half made is published."""
    deadline = time.monotonic() + SETTLE_S
    while (rest := _rest(arena)) and time.monotonic() < deadline:
        time.sleep(0.2)
    _demand(not rest, f"left in the end: {rest}")


def _rest(arena: Arena) -> dict[str, Any]:
    with arena.session() as session:
        states = select(Work.kind, Work.state, func.count()).where(Work.state != "done", Work.kind != "sweep")
        found: dict[str, Any] = {
            f"{kind} {state}": number for kind, state, number in session.execute(states.group_by(Work.kind, Work.state))
        }
        half = {
            "versions without manifest": select(func.count()).where(
                Version.status == "succeeded", Version.manifest_sha256.is_(None)
            ),
            "versions not ended": select(func.count()).where(Version.status.in_(("queued", "running"))),
            "files not ended": select(func.count()).where(File.status.in_(("uploaded", "processing"))),
            "jobs not ended": select(func.count()).where(Job.status.in_(("queued", "running"))),
            "nudges not sent": select(func.count()).select_from(Outbox),
        }
        found |= {name: number for name, query in half.items() if (number := session.scalar(query))}
    return found


def _judge_blobs(arena: Arena, made: Round) -> None:
    """The published manifest and all it names are in the store, each with the bytes that its name promises."""
    with arena.session() as session:
        version = session.get_one(Version, made.version)
        shards = session.scalars(select(Work).where(Work.subject == made.version, Work.kind == "curate")).all()
        joins = session.scalars(select(Work).where(Work.subject == made.version, Work.kind == "join")).all()
    manifest = orjson.loads(_read(arena, str(version.manifest_sha256)))
    one_each = len(manifest["segments"]) * (len(joins) + 1) == len(shards) > 3
    _demand(one_each, "the manifest has not one segment for a shard on either side of the barrier")
    for part in (*manifest["segments"], *manifest["trace"], *manifest["dropped"]):
        _demand(len(_read(arena, part["sha256"])) == part["bytes"], f"{part['path']} has another size")


def _read(arena: Arena, sha256: str) -> bytes:
    try:
        content = arena.blob(sha256)
    except Exception as error:
        raise Loss(f"a published blob is not in the store: {type(error).__name__}") from error
    _demand(hashlib.sha256(content).hexdigest() == sha256, "a published blob has other bytes than its name says")
    return content


def _demand(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Loss(otherwise)
