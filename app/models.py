"""The tables: files, datasets, versions, jobs, keys; and work with its leases and its outbox.

Times in `*_at` columns are Unix seconds of the wall clock, shown to users. Leases are measured by the database's
clock (`app.db.clock_s`) and never shown.
"""

import secrets
import time
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


FINAL = ("succeeded", "failed", "cancelled")
"""Statuses of versions, learned filters and jobs that have ended."""


def new_id(prefix: str) -> str:
    """A fresh public id, `<prefix>-` and 24 hexadecimal digits."""
    return f"{prefix}-{secrets.token_hex(12)}"


class Base(DeclarativeBase):
    """Columns of type dict or list are stored as JSON."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        int: BigInteger().with_variant(Integer, "sqlite"),
        Json: JSON,
        list[str]: JSON,
        list[Json]: JSON,
        str: String,
    }


class ApiKey(Base):
    """A bearer key; only its SHA-256 is kept."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[float] = mapped_column(default=time.time)
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    last_used_at: Mapped[float | None]


class File(Base):
    """An upload: its bytes are the blob `sha256`."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    filename: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(default="uploaded")
    """uploaded, processing, processed, error"""
    status_details: Mapped[str | None]
    format: Mapped[str | None]
    """What ingest detected: messages, sharegpt, alpaca, flat_turns; labels, pairs, preferences, lexicon."""
    detection: Mapped[Json] = mapped_column(default=dict)
    """How it was read: container, compression, encoding, columns, roles by speaker."""
    speakers: Mapped[Json] = mapped_column(default=dict)
    """The upload's own map of speaker to role."""
    columns: Mapped[Json] = mapped_column(default=dict)
    """The upload's own map of the file's column names to ours."""
    counts: Mapped[Json] = mapped_column(default=dict)
    warnings: Mapped[list[str]] = mapped_column(default=list)
    quarantine_sha256: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)


class Upload(Base):
    """A file that comes in parts; once complete it is an ordinary file, and the parts are gone."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(primary_key=True)
    filename: Mapped[str]
    purpose: Mapped[str]
    mime_type: Mapped[str]
    bytes: Mapped[int]
    """As announced; the parts together must have as many."""
    speakers: Mapped[Json] = mapped_column(default=dict)
    columns: Mapped[Json] = mapped_column(default=dict)
    status: Mapped[str] = mapped_column(default="pending")
    """pending, completed, cancelled; one that is pending beyond `expires_at` is told as expired"""
    file_id: Mapped[str | None]
    """No foreign key: the file may be deleted."""
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    expires_at: Mapped[float]


class UploadPart(Base):
    """A part of an upload: the blob `sha256`."""

    __tablename__ = "upload_parts"
    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    sha256: Mapped[str]
    bytes: Mapped[int]
    created_at: Mapped[float] = mapped_column(default=time.time)


class AuditEvent(Base):
    """A change of state that somebody brought about; the database refuses to change or delete one."""

    __tablename__ = "audit_events"
    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("audit"))
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    key_id: Mapped[str | None] = mapped_column(index=True)
    """None for what was done by a command of the service's operator."""
    key_name: Mapped[str | None]
    action: Mapped[str]
    """Method and route, or the command."""
    subject: Mapped[str | None] = mapped_column(index=True)
    """Id of what was made or changed."""
    status: Mapped[int | None]
    request_id: Mapped[str | None]
    address: Mapped[str | None]


class RawSegment(Base):
    """One Parquet segment of an ingested file, in the file's order."""

    __tablename__ = "raw_segments"
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    bytes: Mapped[int]
    conversations: Mapped[int]
    turns: Mapped[int]


class Dataset(Base):
    """A named line of versions."""

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)


class Version(Base):
    """An immutable result of files and a recipe; its manifest is the blob `manifest_sha256` once it succeeded."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("dataset_id", "number"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    number: Mapped[int]
    status: Mapped[str] = mapped_column(default="queued")
    """queued, running, succeeded, failed, cancelled"""
    recipe: Mapped[Json]
    """As resolved: every default filled in."""
    recipe_fingerprint: Mapped[str]
    as_of: Mapped[str]
    """ISO date that ages are counted to."""
    note: Mapped[str | None]
    digest: Mapped[str | None]
    counts: Mapped[Json] = mapped_column(default=dict)
    warnings: Mapped[list[str]] = mapped_column(default=list)
    manifest_sha256: Mapped[str | None]
    error: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    finished_at: Mapped[float | None]


class VersionFile(Base):
    """A file of a version, in the order of the request."""

    __tablename__ = "version_files"
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"), index=True)


class Lexicon(Base):
    """A word list; never changed, a change is a new row with the next number under the same name."""

    __tablename__ = "lexicons"
    __table_args__ = (UniqueConstraint("name", "number"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    number: Mapped[int]
    words: Mapped[list[str]]
    allow: Mapped[list[str]] = mapped_column(default=list)
    category: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)


class LearnedFilter(Base):
    """A filter trained from labels: its artefact is the blob `artefact_sha256`, immutable once it succeeded."""

    __tablename__ = "learned_filters"
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """classifier, smoother or reward_model"""
    name: Mapped[str]
    file_id: Mapped[str] = mapped_column(ForeignKey("files.id"), index=True)
    request: Mapped[Json] = mapped_column(default=dict)
    """Hold-out and hyperparameters as asked for; of a reward model its base and the trainer's settings."""
    status: Mapped[str] = mapped_column(default="queued")
    """queued, running, succeeded, failed, cancelled"""
    digest: Mapped[str | None]
    """Part of the fingerprint of every recipe that names the filter."""
    artefact_sha256: Mapped[str | None]
    metrics: Mapped[Json] = mapped_column(default=dict)
    warnings: Mapped[list[str]] = mapped_column(default=list)
    error: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    finished_at: Mapped[float | None]


class RewardScore(Base):
    """What a reward model says of a conversation, kept so that a version is the same whoever makes it, and when."""

    __tablename__ = "reward_scores"
    model_digest: Mapped[str] = mapped_column(primary_key=True)
    content_sha256: Mapped[str] = mapped_column(primary_key=True)
    score: Mapped[float | None]
    """None where the conversation has no reply to score."""


class RegisteredModel(Base):
    """A base model under a name: a Hugging Face folder whose files are blobs."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(primary_key=True)
    """The name that jobs give as `model`."""
    files: Mapped[list[Json]]
    """name, sha256 and bytes of each file."""
    digest: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)


class Job(Base):
    """A fine-tuning job; `run_dir` lies under the runs folder and is named by the id."""

    __tablename__ = "fine_tuning_jobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    validation_version_id: Mapped[str | None]
    """No foreign key: SQLite would make the table anew for it, and lose what cascades."""
    model: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    """validating_files, queued, running, paused, succeeded, failed, cancelled"""
    request: Mapped[Json]
    """As sent: training_file, hyperparameters, suffix, seed, metadata, trainer …"""
    config: Mapped[Json]
    """The TrainConfig that the worker completes with paths and hands to the trainer; it names versions by id."""
    resolved: Mapped[Json] = mapped_column(default=dict)
    """The TrainConfig with every default filled in, once the trainer has started; without paths."""
    wanted: Mapped[str | None]
    """What the user asks of a running job: cancel or pause."""
    run_fence: Mapped[int | None]
    """Fence of the lease under which the trainer was last started: a run directory that bears it is up to date."""
    error: Mapped[Json | None]
    fine_tuned_model: Mapped[str | None]
    progress: Mapped[Json] = mapped_column(default=dict)
    architecture: Mapped[list[Json]] = mapped_column(default=list)
    recovery: Mapped[list[Json]] = mapped_column(default=list)
    """The lines of recovery.jsonl; their records also say file and line."""
    result_files: Mapped[list[str]] = mapped_column(default=list)
    trained_tokens: Mapped[int | None]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    finished_at: Mapped[float | None]


class JobEvent(Base):
    """A message of a job's life, in order; mirrored from the run directory or written by the service."""

    __tablename__ = "job_events"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True, default=lambda: new_id("ftevent"))
    job_id: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id", ondelete="CASCADE"), index=True)
    level: Mapped[str] = mapped_column(default="info")
    message: Mapped[str]
    data: Mapped[Json] = mapped_column(default=dict)
    created_at: Mapped[float] = mapped_column(default=time.time)


class JobMetric(Base):
    """One optimiser step's line of metrics.jsonl."""

    __tablename__ = "job_metrics"
    job_id: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[Json]


class JobEvaluation(Base):
    """One line of evaluations.jsonl: how a run's model did on the held-out conversations after a step."""

    __tablename__ = "job_evaluations"
    job_id: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[Json]


class JobCheckpoint(Base):
    """A complete checkpoint of a run, with what another machine needs to go on from it."""

    __tablename__ = "job_checkpoints"
    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id", ondelete="CASCADE"), index=True)
    step: Mapped[int]
    metrics: Mapped[Json] = mapped_column(default=dict)
    files: Mapped[list[Json]] = mapped_column(default=list)
    """Of the run directory: name, sha256 and bytes of each; empty once the run keeps newer checkpoints instead."""
    created_at: Mapped[float] = mapped_column(default=time.time)


class JobFile(Base):
    """A file that a job offers, of its evaluations while it runs: the blob `sha256`.

    The last step's Hugging Face folder bears its files' own names; `best/`, `adapter/` and `evaluation/` come before
    those of the best step's folder, of LoRA's adapter, and of generated samples.
    """

    __tablename__ = "job_files"
    job_id: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    bytes: Mapped[int]


class Experiment(Base):
    """One training over a grid of settings; its report is the blob `report_sha256` once it succeeded."""

    __tablename__ = "experiments"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    """queued, running, succeeded, failed, cancelled"""
    request: Mapped[Json]
    """job, grid and evaluation as sent, the grid written out."""
    targets: Mapped[list[Json]]
    """What runs are scored on: name and version of each set of conversations."""
    targets_sha256: Mapped[str | None]
    """The conversations of these sets that no run has learned."""
    report_sha256: Mapped[str | None]
    samples_sha256: Mapped[str | None]
    """What every run said in place of each reply, beside that reply."""
    review_id: Mapped[str | None]
    warnings: Mapped[list[str]] = mapped_column(default=list)
    error: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    finished_at: Mapped[float | None]


class ExperimentRun(Base):
    """A point of an experiment's grid: an ordinary job, and what its model was scored."""

    __tablename__ = "experiment_runs"
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    settings: Mapped[Json]
    """What the grid set, by field."""
    budget: Mapped[str]
    """epochs or tokens"""
    job_id: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id"), index=True)
    scores: Mapped[Json | None]
    """Facts of the scoring and the blobs of its rows."""
    error: Mapped[str | None]


class Review(Base):
    """Replies of two models to the same prompts, to be judged by people who do not know whose is whose."""

    __tablename__ = "reviews"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    left: Mapped[str]
    right: Mapped[str]
    """Names of models, or of what else the replies came from."""
    prompts: Mapped[str | None] = mapped_column(index=True)
    """The file or version that prompts are drawn from; None where the replies were there already."""
    samples: Mapped[int]
    seed: Mapped[int]
    request: Mapped[Json] = mapped_column(default=dict)
    """How replies are generated: max_new_tokens, temperature."""
    status: Mapped[str] = mapped_column(default="queued")
    """Of the replies: queued, running, succeeded, failed, cancelled."""
    warnings: Mapped[list[str]] = mapped_column(default=list)
    error: Mapped[str | None]
    closed_at: Mapped[float | None]
    """When somebody ended the judging."""
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    finished_at: Mapped[float | None]


class ReviewItem(Base):
    """A prompt with both replies, at its place in the stored order."""

    __tablename__ = "review_items"
    __table_args__ = (UniqueConstraint("review_id", "ordinal"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: new_id("item"))
    review_id: Mapped[str] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    swapped: Mapped[bool]
    """Whether the left side's reply is shown as `b`."""
    conversation_id: Mapped[str]
    messages: Mapped[list[Json]]
    reference: Mapped[str | None]
    """What was really said in reply."""
    left: Mapped[str | None]
    right: Mapped[str | None]
    """The replies, once generated."""


class Judgement(Base):
    """What a rater thinks of a pair."""

    __tablename__ = "judgements"
    item_id: Mapped[str] = mapped_column(ForeignKey("review_items.id", ondelete="CASCADE"), primary_key=True)
    rater: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[str]
    """a, b, tie, both_bad, as the rater saw the sides"""
    comment: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time)


class KeptAnswer(Base):
    """What a POST was answered, so that a retry gets the same resource instead of a second one."""

    __tablename__ = "kept_answers"
    __table_args__ = (
        UniqueConstraint("api_key_id", "idempotency_key"),
        Index("ix_kept_answers_request", "api_key_id", "request_sha256", "created_at"),
    )
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    api_key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[str]
    """Of path, query, parsed fields and file contents."""
    status: Mapped[int]
    body: Mapped[Json]
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)


class Secret(Base):
    """A random secret that all processes of the service share, such as the one that signs download URLs."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class KnownResult(Base):
    """What curating a raw segment by a recipe gave, so that the next version with both need not do it again."""

    __tablename__ = "known_results"
    key: Mapped[str] = mapped_column(primary_key=True)
    """As `curation.reuse.result_key` gives it."""
    result: Mapped[Json]
    used_at: Mapped[float] = mapped_column(default=time.time)


class Work(Base):
    """A piece of background work and its lease.

    `kind` is ingest (subject: file), plan, curate, join, close (subject: version), learn (subject: learned filter),
    train (subject: job), collect (subject: store), or hold_out, score, report (subject: experiment). Whoever holds
    `owner` and `fence` may commit a result; the fence grows with every claim, so a late worker is turned away.
    """

    __tablename__ = "work"
    __table_args__ = (
        UniqueConstraint("kind", "subject", "ordinal"),
        Index("ix_work_state_lease", "state", "lease_until"),
        Index("ix_work_subject_state", "subject", "state"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    ordinal: Mapped[int] = mapped_column(default=0)
    queue: Mapped[str] = mapped_column(default="curate")
    state: Mapped[str] = mapped_column(default="pending")
    """pending, leased, done, dead, cancelled"""
    payload: Mapped[Json] = mapped_column(default=dict)
    result: Mapped[Json | None]
    error: Mapped[str | None]
    owner: Mapped[str | None]
    fence: Mapped[int] = mapped_column(default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    """Claims that were not given back; of training, which outlives workers, only those that ended in a fault."""
    lease_until: Mapped[float | None]
    nudged_at: Mapped[float | None]
    """When it was last announced to the broker, by the clock of leases."""
    created_at: Mapped[float] = mapped_column(default=time.time)


class Outbox(Base):
    """A nudge to be sent after the commit that wrote it; deleted once the broker has it."""

    __tablename__ = "outbox"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    work_id: Mapped[str]
    queue: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
