"""Every setting of the service, read once from `TALKMILL_*` environment variables.

One of the four modules (with db, store and queue) that know whether the service runs embedded on a laptop
or on PostgreSQL, Redis and S3.
"""

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where things lie and how long they may take; all have defaults for one machine."""

    model_config = SettingsConfigDict(env_prefix="TALKMILL_", extra="ignore", frozen=True)

    data_dir: Path = Path(".talkmill")
    """Folder of everything the embedded stack writes: database, store, broker, run directories, admin key."""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite inside `data_dir`."""
    broker_url: str = ""
    """Celery broker; `talkmill up` fills it with the embedded Valkey's address."""
    store_url: str = ""
    """Where blobs lie; empty means the folder `store` inside `data_dir`."""
    model_folders: list[Path] = []
    """Folders under which a fine-tuning job may name a local base model."""

    segment_bytes: int = Field(default=32 * 2**20, ge=1024)
    """Raw bytes per ingest segment: the unit of work, of memory, of retry."""
    max_upload_bytes: int = Field(default=8 * 2**30, ge=1)
    lease_s: float = Field(default=30.0, gt=1)
    """How long a worker owns a piece of work without a heartbeat."""
    max_attempts: int = Field(default=3, ge=1)
    """Attempts before a piece of work is dead-lettered and its version, file or job fails."""
    sweep_every_s: float = Field(default=2.0, gt=0)
    nudge_again_s: float = Field(default=20.0, gt=0)
    """Pending work that nobody claimed for this long is announced to the broker again."""
    train_nproc: int = Field(default=2, ge=1)
    """Training processes per job when the job does not say."""
    chat_idle_s: float = Field(default=300.0, gt=0)
    """A generation process that served nobody for this long is stopped."""

    @property
    def sqlalchemy_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'talkmill.db'}"

    @property
    def store_path(self) -> str:
        return self.store_url or str(self.data_dir.absolute() / "store")

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
    """The process's settings; read from the environment the first time."""
    return Settings()
