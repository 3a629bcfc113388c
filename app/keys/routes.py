"""`/v1/keys`."""

import time

from fastapi import APIRouter

from app.auth import ADMIN, create_key
from app.errors import NotFoundError
from app.fields import After, KeyId, Limit
from app.keys import repository
from app.keys.schemas import Key, KeyRequest, NewKey, show_key
from app.models import ApiKey
from app.paging import Deleted, ListPage
from app.sessions import ReadSession, WriteSession

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post("", status_code=201, dependencies=[ADMIN])
def create(session: WriteSession, body: KeyRequest) -> NewKey:
    """Makes a key; the answer is the only place where it can be read."""
    row, token = create_key(session, body.name, body.scopes, body.expires_in_s)
    return NewKey(**show_key(row).model_dump(), key=token)


@router.get("", dependencies=[ADMIN])
def list_keys(session: ReadSession, after: After = None, limit: Limit = 100) -> ListPage[Key]:
    """Every key, revoked ones too."""
    rows, more = repository.list_keys(session, after=after, limit=limit)
    return ListPage(data=[show_key(row) for row in rows], has_more=more, last_id=rows[-1].id if rows else None)


@router.delete("/{key_id}", dependencies=[ADMIN])
def revoke(session: WriteSession, key_id: KeyId) -> Deleted:
    """Revokes a key, at once and for good."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFoundError(f"there is no key {key_id}")
    key.revoked_at = key.revoked_at or time.time()
    return Deleted(id=key.id, object="api_key.deleted")
