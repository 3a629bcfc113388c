"""Every setting of the service, read once from `TALKMILL_*` environment variables.

One of the four modules (with db, store and queue) that know whether the service runs embedded on a laptop
or on PostgreSQL, Redis and S3.
"""

from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError


class Settings(BaseSettings):
    """Where things lie and how long they may take; all have defaults for one machine."""

    model_config = SettingsConfigDict(
        env_prefix="TALKMILL_",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    data_dir: Path = Path(".talkmill")
    """Folder of everything the embedded stack writes: database, store, broker, run directories, admin key."""
    database_url: str = ""
    """`postgresql://user:password@host/name` or any SQLAlchemy URL of these two; empty means SQLite in `data_dir`."""
    broker_url: str = ""
    """`redis://:password@host:port/0`; empty means that `talkmill up` starts a Valkey of its own."""
    store_url: str = ""
    """Where blobs lie: a folder, or `s3://bucket/prefix` with `AWS_*` variables; empty means `store` in `data_dir`."""
    cache_bytes: int = Field(default=20 * 2**30, ge=0)
    """How much of an S3 store is kept on this machine; what was used least recently goes first."""
    model_folders: list[Path] = []
    """Folders under which a fine-tuning job may name a local base model."""

    segment_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Raw bytes per ingest segment: the unit of work, of memory, of retry."""
    max_upload_bytes: int = Field(default=8 * 2**30, ge=1)
    """Largest file that `POST /v1/files` takes."""
    requests_per_minute: int = Field(default=30_000, ge=0)
    """Requests of one key that a process of the API listens to; 0 for any number."""
    refusals_per_minute: int = Field(default=1_200, ge=0)
    """Requests without a valid key that it answers by 401, of one address; further ones by 429; 0 for any number."""
    lease_s: float = Field(default=30.0, gt=1)
    """How long a worker owns a piece of work without a heartbeat."""
    max_attempts: int = Field(default=3, ge=1)
    """Attempts before a piece of work is dead-lettered and its version, file or job fails."""
    sweep_every_s: float = Field(default=2.0, gt=0)
    """How often one of the workers looks for expired leases and for work that nobody was told of."""
    nudge_again_s: float = Field(default=20.0, gt=0)
    """Pending work that nobody claimed for this long is announced to the broker again."""
    train_nproc: int | None = Field(default=None, ge=1)
    """Training processes of a job that does not say; one a GPU of its worker by default, 2 without any."""
    keep_runs_days: float = Field(default=7.0, ge=0)
    """How long a worker keeps the run directory of a job that has ended; what a user may want of it is in the store."""
    keep_results_days: float = Field(default=90.0, ge=0)
    """How long what a recipe made of a segment is kept for later versions, counted from its last use."""
    collect_store: bool = True
    """Whether workers look once a day for blobs that nothing names any more, and remove those a week later."""
    chat_idle_s: float = Field(default=300.0, gt=0)
    """A generation process that served nobody for this long is stopped."""

    @field_validator("database_url")
    @classmethod
    def _with_our_driver(cls, url: str) -> str:
        """Takes the URLs that other tools write for PostgreSQL too."""
        if not url:
            return url
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ValueError("must be a URL such as postgresql://user:password@host:5432/talkmill") from None
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername not in ("postgresql+psycopg", "sqlite"):
            raise ValueError(f"must start with postgresql:// or sqlite://, not {parsed.drivername}://")
        return parsed.render_as_string(hide_password=False)

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if separator and scheme not in ("file", "s3"):
            raise ValueError(f"must be a folder, file:///folder or s3://bucket/prefix, not {scheme}://")
        if scheme == "file" and separator and not rest.startswith("/"):
            raise ValueError("must name a folder of this machine: file:///folder")
        if scheme == "s3" and separator and not rest.strip("/"):
            raise ValueError("must name a bucket: s3://bucket/prefix")
        return url

    @property
    def sqlalchemy_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'talkmill.db'}"

    @property
    def bucket(self) -> tuple[str, str] | None:
        """Bucket and prefix of an S3 store; None where blobs lie in a folder."""
        parts = urlsplit(self.store_url)
        return (parts.netloc, parts.path.strip("/")) if parts.scheme == "s3" else None

    @property
    def store_dir(self) -> Path:
        """Where blobs lie when they lie in a folder."""
        if self.store_url.startswith("file://"):
            return Path(unquote(urlsplit(self.store_url).path))
        return Path(self.store_url).absolute() if self.store_url else self.data_dir.absolute() / "store"

    @property
    def cache_dir(self) -> Path:
        """What this machine keeps of an S3 store."""
        return self.data_dir.absolute() / "cache"

    @property
    def runs_dir(self) -> Path:
        """Run directories of training jobs on this machine."""
        return self.data_dir.absolute() / "runs"

    @property
    def work_dir(self) -> Path:
        """Scratch space of workers; emptied piece by piece as work ends."""
        return self.data_dir.absolute() / "work"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings; read from the environment the first time.

    Raises:
        SystemExit: a variable makes no sense; the one line of the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise SystemExit(f"Error: TALKMILL_{'.'.join(map(str, first['loc'])).upper()}: {reason}") from None
