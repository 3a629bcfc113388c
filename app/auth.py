"""API keys and what they allow.

A key is `tm_` and 256 random bits, shown once; the database holds its SHA-256. `authenticate` runs at the edge, before
a body is read; each route declares the scope it needs (`dependencies=[READ]`).
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from app.db import reading, writing
from app.errors import ForbiddenError, UnauthenticatedError
from app.keys.repository import key_by_hash
from app.models import ApiKey, new_id

SCOPES = {
    "read": "See files, datasets, versions, jobs and models; chat with finished models.",
    "curate": "Upload and delete files, make datasets, versions and lexicons.",
    "train": "Create and cancel fine-tuning jobs.",
    "admin": "Make, list and revoke keys.",
}
"""Every scope and what it allows; none includes another."""
STAMP_EVERY_S = 60.0
"""A key's time of last use is written at most this often."""


@dataclass(frozen=True)
class Caller:
    """Who makes a request."""

    key_id: str
    scopes: frozenset[str]


def create_key(
    session: Session, name: str, scopes: Sequence[str], expires_in_s: float | None = None
) -> tuple[ApiKey, str]:
    """Adds a key to the session; returns its row and the key itself, which is nowhere else."""
    assert set(scopes) <= set(SCOPES)
    token = f"tm_{secrets.token_urlsafe(32)}"
    now = time.time()
    key = ApiKey(
        id=new_id("key"),
        name=name,
        hash=_hash(token),
        scopes=sorted(set(scopes)),
        created_at=now,
        expires_at=None if expires_in_s is None else now + expires_in_s,
    )
    session.add(key)
    session.flush()
    return key, token


def authenticate(authorization: str | None) -> Caller:
    """The caller of a request with this `Authorization` header.

    Raises:
        UnauthenticatedError: no key, or one that is unknown, revoked or expired.
    """
    kind, _, token = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise UnauthenticatedError("send an API key as `Authorization: Bearer tm_…`")
    now = time.time()
    with reading() as session:
        key = key_by_hash(session, _hash(token.strip()))
    if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise UnauthenticatedError("the API key is unknown, revoked or expired")
    if key.last_used_at is None or now - key.last_used_at > STAMP_EVERY_S:
        with writing() as session:
            session.get_one(ApiKey, key.id).last_used_at = now
    return Caller(key.id, frozenset(key.scopes))


@dataclass(frozen=True)
class Needs:
    """A route's dependency: the caller's key must hold the scope."""

    scope: str

    def __call__(
        self,
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        caller: Caller = request.state.caller
        if self.scope not in caller.scopes:
            raise ForbiddenError(f"this needs a key with the scope `{self.scope}`")


READ, CURATE, TRAIN, ADMIN = (Depends(Needs(scope)) for scope in ("read", "curate", "train", "admin"))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
