"""Keys are made, listed and revoked by an admin."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from app.auth import create_key, needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import NotFound, responses
from app.fields import Name
from app.models import ApiKey
from app.once import OnceRoute

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=OnceRoute)


class NewKey(BaseModel):
    """What the key is for and what it may do."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    scopes: list[Literal["read", "curate", "train", "admin"]] = Field(min_length=1)
    expires_in_s: float | None = Field(None, gt=0, le=10 * 365 * 86400)


class Key(BaseModel):
    """A key without its secret."""

    id: str
    object: str = "api_key"
    name: str
    scopes: list[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None


class CreatedKey(Key):
    """A new key; `key` is shown this once."""

    key: str


def show(key: ApiKey) -> Key:
    """The key as the API tells it."""
    times = {
        name: None if (at := getattr(key, name)) is None else int(at)
        for name in ("expires_at", "revoked_at", "last_used_at")
    }
    return Key(id=key.id, name=key.name, scopes=key.scopes, created_at=int(key.created_at), **times)


@router.post("", status_code=201, dependencies=[needs("admin")], responses=responses())
def create(body: NewKey, session: WriteSession) -> CreatedKey:
    """Makes a key; its secret is in this answer and nowhere else."""
    key, token = create_key(session, body.name, body.scopes, body.expires_in_s)
    return CreatedKey(**show(key).model_dump(), key=token)


@router.get("", dependencies=[needs("admin")], responses=responses(NotFound))
def list_keys(session: ReadSession, page: Paged) -> ListOf:
    """All keys, the newest first."""
    rows, more = page_of(session, select(ApiKey), ApiKey, page)
    return ListOf(data=[show(row) for row in rows], has_more=more)


@router.delete("/{key_id}", dependencies=[needs("admin")], responses=responses(NotFound))
def revoke(key_id: Annotated[str, Path(pattern=r"^key-[0-9a-f]{24}$")], session: WriteSession) -> Key:
    """Revokes a key at once."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFound(f"there is no key {key_id}")
    key.revoked_at = key.revoked_at or time.time()
    return show(key)
