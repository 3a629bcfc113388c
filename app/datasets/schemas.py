"""Datasets and versions as the API tells them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.fields import JsonObject, Name, Note

FileId = Annotated[str, Field(pattern=r"^file-[0-9a-f]{24}$")]


class NewDataset(BaseModel):
    """A dataset to be."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    description: Note | None = None


class DatasetChange(BaseModel):
    """What may change of a dataset."""

    model_config = ConfigDict(extra="forbid")
    name: Name | None = None
    description: Note | None = None


class DatasetObject(BaseModel):
    """A dataset."""

    id: str
    object: str = "dataset"
    name: str
    description: str | None
    created_at: int


class NewVersion(BaseModel):
    """Which files become a version, by which recipe."""

    model_config = ConfigDict(extra="forbid")
    files: list[FileId] = Field(min_length=1, max_length=10_000)
    recipe: JsonObject | None = None
    note: Note | None = None


class ProgressObject(BaseModel):
    """How far the shards are."""

    shards_done: int
    shards_total: int
    conversations_done: int


class VersionObject(BaseModel):
    """A version; immutable once it succeeded."""

    id: str
    object: str = "dataset.version"
    dataset_id: str
    number: int
    status: str
    digest: str | None
    recipe: dict[str, Any]
    recipe_fingerprint: str
    as_of: str
    files: list[str]
    note: str | None
    progress: ProgressObject
    counts: dict[str, Any]
    warnings: list[str]
    error: str | None
    created_at: int
    finished_at: int | None


class DiffObject(BaseModel):
    """A page of what differs between two versions, and the counts of all of it."""

    object: str = "list"
    version: str
    against: str
    counts: dict[str, int]
    """added, removed, changed and unchanged conversations."""
    recipe: dict[str, Any]
    version_counts: dict[str, Any]
    """The versions' own counts, before and after."""
    data: list[dict[str, Any]]
    has_more: bool


class ParquetPart(BaseModel):
    """A Parquet file of a version, to be read without a key while its URL is valid."""

    url: str
    rows: int
    sha256: str
    bytes: int


class ParquetList(BaseModel):
    """A version's Parquet files, in order."""

    object: str = "list"
    data: list[ParquetPart]
    has_more: bool = False
