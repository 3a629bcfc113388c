"""The first page: datasets, what is under way, what somebody should look at."""

from fastapi import APIRouter, Request, Response

from app.console import overview
from app.console.pages import PageRoute, SignedIn, render
from app.dependencies import ReadSession

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)


@router.get("/")
def home(request: Request, console: SignedIn, session: ReadSession) -> Response:
    """Everything at a glance."""
    return render(
        request, "home.html.jinja",
        datasets=overview.datasets_with_newest(session, 8), under_way=overview.under_way(session),
        attention=overview.needs_attention(session),
        num_dead=overview.num_dead_letters(session) if console.may("admin") else 0,
    )  # fmt: skip


@router.get("/under-way")
def under_way(request: Request, console: SignedIn, session: ReadSession) -> Response:
    """The part of the first page that is asked for again while something is under way."""
    return render(request, "parts/under_way.html.jinja", under_way=overview.under_way(session))
