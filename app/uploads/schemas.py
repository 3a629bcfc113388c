"""Uploads in parts, as in the OpenAI API, with our own members beside."""

from pydantic import BaseModel, ConfigDict, Field

from app.fields import Text
from app.files.routes import FileObject


class ExpiresAfter(BaseModel):
    """When the file should expire; taken and ignored, since files are kept until they are deleted."""

    model_config = ConfigDict(extra="forbid")
    anchor: Text
    seconds: int


class NewUpload(BaseModel):
    """A file to come."""

    model_config = ConfigDict(extra="forbid")
    filename: Text = Field(min_length=1, max_length=1000)
    purpose: Text
    bytes: int = Field(ge=1, lt=2**63, strict=True)
    """Of the whole file; its parts together must have exactly as many."""
    mime_type: Text = Field("application/octet-stream", max_length=255)
    expires_after: ExpiresAfter | None = None
    speakers: Text | None = None
    """JSON: speaker name → user, assistant, system or ignore"""
    columns: Text | None = None
    """JSON: the file's column name → ours"""


class PartObject(BaseModel):
    """A part that is stored."""

    id: str
    object: str = "upload.part"
    upload_id: str
    created_at: int
    bytes: int
    sha256: str


class UploadObject(BaseModel):
    """An upload: the OpenAI object, and which parts have come."""

    id: str
    object: str = "upload"
    filename: str
    purpose: str
    mime_type: str
    bytes: int
    bytes_received: int
    status: str
    """pending, completed, cancelled, expired"""
    parts: list[PartObject]
    """In the order in which they came, while the upload is pending: whoever was cut off sees what is missing."""
    created_at: int
    expires_at: int
    file: FileObject | None


class Completion(BaseModel):
    """The order of the parts, and what the whole must be."""

    model_config = ConfigDict(extra="forbid")
    part_ids: list[Text] = Field(min_length=1, max_length=10_000)
    md5: str | None = Field(None, pattern=r"^[0-9a-fA-F]{32}$")
    """Of the whole file."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")
    """Of the whole file."""
