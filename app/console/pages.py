"""How a page is made: templates, the user's language, the signed-in key, errors as pages, and forbidding headers."""

import hashlib
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from app.console.language import Texts, texts_for
from app.console.sessions import Session, session_of
from app.console.showing import FILTERS
from app.errors import ApiError, Forbidden, unexpected

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class NotSignedIn(Exception):  # noqa: N818  (no error: the user is asked for a key)
    """A page was asked for without a session."""


def _signed_in(request: Request) -> Session:
    session = session_of(request)
    if session is None:
        raise NotSignedIn
    if not session.may("read"):
        raise Forbidden("the key lacks the scope read", code="missing_scope")
    request.state.console = session
    return session


SignedIn = Annotated[Session, Depends(_signed_in)]


def needs_admin(session: SignedIn) -> None:
    """Refuses a page to whoever is no admin.

    Raises:
        Forbidden: the key lacks the scope.
    """
    if not session.may("admin"):
        raise Forbidden("the key lacks the scope admin", code="missing_scope")


class PageRoute(APIRoute):
    """A route whose errors are pages, and whose strangers are asked to sign in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except NotSignedIn:
                return _to_sign_in(request)
            except RequestValidationError:
                return render(request, "error.html.jinja", 404, status=404, detail=None)
            except ApiError as error:
                return render(request, "error.html.jinja", error.status, status=error.status, detail=error.detail)
            except HTTPException as error:
                return render(request, "error.html.jinja", error.status_code, status=error.status_code, detail=None)
            except Exception as error:  # noqa: BLE001  (the edge of a page)
                status = unexpected(request, error).status_code
                return render(request, "error.html.jinja", status, status=status, detail=None)

        return answered


def _to_sign_in(request: Request) -> Response:
    if "hx-request" in request.headers:  # a part of a page: the whole page must go
        return Response(status_code=401, headers={"hx-redirect": "/console/sign-in", **HEADERS})
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/console/sign-in?next={quote(asked, safe='')}", 303, headers=HEADERS)


def render(request: Request, template: str, code: int = 200, /, **context: Any) -> HTMLResponse:
    """A page, or a part of one, in the user's language."""
    texts = texts_for(request)
    session: Session | None = getattr(request.state, "console", None)
    page = _templates().get_template(template).render(
        t=texts, language=texts.language, session=session, path=request.url.path, scripts_texts=texts.for_scripts(),
        **context,
    )  # fmt: skip
    return HTMLResponse(page, code, headers=HEADERS | {"content-language": texts.language, "vary": "accept-language"})


@lru_cache(maxsize=1)
def static_digest() -> str:
    """Changes with any of the static files, so that browsers may keep them."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _static(name: str) -> str:
    return f"/console/static/{name}?v={static_digest()}"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.console"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=True,
    )  # fmt: skip
    environment.filters |= FILTERS
    environment.globals |= {"static": _static, "Texts": Texts}
    return environment
