"""API keys: `Authorization: Bearer tm_…`. Only a key's SHA-256 is stored; each route names the scope it needs.

Scopes: `read` (look at everything but keys, chat), `curate` (files, datasets, versions, lexicons), `train` (jobs),
`admin` (keys, dead letters). None implies another.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import reading
from app.errors import Forbidden, Unauthorized
from app.models import ApiKey, new_id

SCOPES = frozenset({"read", "curate", "train", "admin"})
PREFIX = "tm_"
bearer = HTTPBearer(auto_error=False)


def create_key(
    session: Session, name: str, scopes: Sequence[str], expires_in_s: float | None = None
) -> tuple[ApiKey, str]:
    """Makes a key of 256 random bits; the token is not stored and cannot be shown again."""
    token = PREFIX + secrets.token_urlsafe(32)
    expires_at = None if expires_in_s is None else time.time() + expires_in_s
    key = ApiKey(id=new_id("key"), name=name, hash=_hash(token), scopes=sorted(scopes), expires_at=expires_at)
    session.add(key)
    session.flush()
    return key, token


def is_known(token: str) -> bool:
    """Whether the database has this key, valid or not."""
    with reading() as session:
        return session.scalar(select(ApiKey.id).where(ApiKey.hash == _hash(token.strip()))) is not None


def authenticate(authorization: str | None) -> ApiKey:
    """The key of a request with this header; asked before the body is read, so that strangers can fill no disk.

    Raises:
        Unauthorized: no key, an unknown, expired or revoked one.
    """
    kind, _, token = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not token or not token.isascii():
        raise Unauthorized("send a key as `Authorization: Bearer tm_…`", code="missing_key")
    with reading() as session:
        key = session.scalar(select(ApiKey).where(ApiKey.hash == _hash(token.strip())))
    return _valid(key)


def key_of_id(key_id: str) -> ApiKey:
    """The key of this id, for those whom a signed session names.

    Raises:
        Unauthorized: it is unknown, expired or revoked.
    """
    with reading() as session:
        key = session.get(ApiKey, key_id)
    return _valid(key)


def _valid(key: ApiKey | None) -> ApiKey:
    if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= time.time()):
        raise Unauthorized("the key is unknown, expired or revoked", code="invalid_key")
    return key


def authorize(
    request: Request,
    scopes: SecurityScopes,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],  # for the API's description
) -> ApiKey:
    """The request's key, if it has the route's scopes.

    Raises:
        Forbidden: a scope is missing.
    """
    key: ApiKey = request.state.key
    missing = set(scopes.scopes) - set(key.scopes)
    if missing:
        raise Forbidden(f"the key lacks the scope {', '.join(sorted(missing))}", code="missing_scope")
    return key


def needs(scope: str) -> Any:
    """The dependency of a route that needs a scope."""
    assert scope in SCOPES
    return Security(authorize, scopes=[scope])


def _hash(token: str) -> str:
    """Keys are random, so a plain hash cannot be guessed back; looking it up by index leaks no timing of the key."""
    return hashlib.sha256(token.encode()).hexdigest()
