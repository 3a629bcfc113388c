"""Who is signed in to the console: a signed cookie that names a key and an hour, and a token against forged requests.

The cookie holds no secret of the key; it ends with the key, after twelve hours, or when the user signs out. Requests
that change anything must also bear the session's token in a header, which no other site can read or send.
"""

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

from fastapi import Request, Response

from app.auth import authenticate, key_of_id
from app.db import reading
from app.errors import Forbidden, Unauthorized
from app.models import ApiKey
from app.shared_secret import shared_secret

COOKIE = "talkmill_session"
CSRF_HEADER = "x-csrf-token"
LASTS_S = 12 * 3600
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
SECRET_NAME = "console-sessions"  # noqa: S105  (its name, not its value)
TOKEN = re.compile(r"(key-[0-9a-f]{24})\.([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")


@dataclass(frozen=True)
class Session:
    """A signed-in key and the token that its requests bear."""

    key: ApiKey
    csrf: str

    def may(self, scope: str) -> bool:
        """Whether the key has the scope."""
        return scope in self.key.scopes


def sign_in(request: Request, response: Response, token: str) -> None:
    """Begins a session with a key.

    Raises:
        Unauthorized: the key is unknown, expired or revoked.
    """
    key = authenticate(f"Bearer {token.strip()}")
    named = f"{key.id}.{int(time.time()) + LASTS_S}.{secrets.token_hex(16)}"
    response.set_cookie(
        COOKIE, f"{named}.{_sign(named)}", max_age=LASTS_S, httponly=True, samesite="lax",
        secure=request.url.scheme == "https",
    )  # fmt: skip


def sign_out(response: Response) -> None:
    """Ends the session in this browser."""
    response.delete_cookie(COOKIE)


def session_of(request: Request) -> Session | None:
    """The request's session, if it has one that lasts; whether it may change anything is asked by `check_csrf`."""
    found = TOKEN.fullmatch(request.cookies.get(COOKIE, ""))
    if found is None:
        return None
    key_id, expires, nonce, signature = found.groups()
    named = f"{key_id}.{expires}.{nonce}"
    if not hmac.compare_digest(_sign(named), signature) or int(expires) <= time.time():
        return None
    try:
        return Session(key_of_id(key_id), _sign(f"csrf {named}"))
    except Unauthorized:
        return None


def check_csrf(request: Request, session: Session, given: str) -> None:
    """Refuses a change that the console's own pages did not ask for.

    Raises:
        Forbidden: the request lacks the session's token.
    """
    if request.method not in SAFE and not hmac.compare_digest(session.csrf.encode(), given.encode()):
        raise Forbidden(f"a session's request must bear its token as {CSRF_HEADER}", code="csrf")


def key_of_session(request: Request) -> ApiKey | None:
    """The key of a request to the API that the console's pages sent; None where it bears no session.

    Raises:
        Forbidden: it would change something and lacks the session's token.
    """
    session = session_of(request)
    if session is None:
        return None
    check_csrf(request, session, request.headers.get(CSRF_HEADER, ""))
    return session.key


def _sign(text: str) -> str:
    with reading() as session:
        secret = shared_secret(session, SECRET_NAME)
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
