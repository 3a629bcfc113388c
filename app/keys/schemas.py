"""API keys as the API shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.fields import Name
from app.models import ApiKey

Scope = Literal["read", "curate", "train", "admin"]


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    expires_in_s: Annotated[float | None, Field(gt=0, le=10 * 366 * 86400, allow_inf_nan=False)] = None


class Key(BaseModel):
    """A key, without the key itself."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: list[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None


class NewKey(Key):
    """A key just made: the only time that it is shown."""

    key: str


def show_key(key: ApiKey) -> Key:
    """The resource of a row."""

    def seconds(time: float | None) -> int | None:
        return None if time is None else int(time)

    return Key(
        id=key.id,
        name=key.name,
        scopes=key.scopes,
        created_at=int(key.created_at),
        expires_at=seconds(key.expires_at),
        revoked_at=seconds(key.revoked_at),
        last_used_at=seconds(key.last_used_at),
    )
