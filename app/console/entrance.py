"""Signing in and out, the choice of a language, and the static files."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from app.console import sessions
from app.console.language import COOKIE, LANGUAGES
from app.console.pages import HEADERS, PageRoute, SignedIn, render
from app.errors import Forbidden, TooManyRequests, Unauthorized
from app.limits import request_limits

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)
HOME = "/console/"
Address = Annotated[str, Query(max_length=4000, alias="next")]


def _own(address: str) -> str:
    """An address within the console; anything else is its first page, so that no link leads elsewhere."""
    inside = address.startswith(HOME) and "\\" not in address and "//" not in address.partition("?")[0]
    return address if inside else HOME


@router.get("/sign-in")
def ask(request: Request, target: Address = HOME) -> Response:
    """Asks for a key."""
    if sessions.session_of(request) is not None:
        return RedirectResponse(_own(target), 303, headers=HEADERS)
    return render(request, "sign_in.html.jinja", target=_own(target), refused=None)


@router.post("/sign-in")
async def sign_in(
    request: Request, key: Annotated[str, Form(max_length=500)] = "", target: Annotated[str, Form(alias="next")] = HOME
) -> Response:
    """Begins a session with a key, or says why not; many refusals from one address are slowed down as the API's are."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("the form was sent by another site", code="csrf")
    answer = RedirectResponse(_own(target), 303, headers=HEADERS)
    try:
        await run_in_threadpool(sessions.sign_in, request, answer, key)
    except Unauthorized:
        try:
            request_limits().count_refusal(request.client.host if request.client else "")
        except TooManyRequests:
            return render(request, "sign_in.html.jinja", 429, target=_own(target), refused="sign_in.too_often")
        return render(request, "sign_in.html.jinja", 401, target=_own(target), refused="sign_in.refused")
    return answer


@router.post("/sign-out")
def sign_out(request: Request, session: SignedIn, csrf: Annotated[str, Form(max_length=100)] = "") -> Response:
    """Ends the session."""
    sessions.check_csrf(request, session, csrf)
    answer = RedirectResponse("/console/sign-in", 303, headers=HEADERS)
    sessions.sign_out(answer)
    return answer


@router.get("/language/{language}")
def choose_language(language: str, target: Address = HOME) -> Response:
    """Keeps the choice of a language for a year."""
    answer = RedirectResponse(_own(target), 303, headers=HEADERS)
    if language in LANGUAGES:
        answer.set_cookie(COOKIE, language, max_age=365 * 86400, samesite="lax", httponly=True)
    return answer
