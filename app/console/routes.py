"""The console as one: its pages, its static files, and the way in."""

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from app.console import (
    admin_pages,
    data_pages,
    entrance,
    experiment_pages,
    filter_pages,
    home,
    recipe_pages,
    review_pages,
    training_pages,
    version_pages,
)
from app.console.pages import STATIC, PageRoute, SignedIn
from app.errors import NotFound

PAGES = (
    entrance, home, data_pages, recipe_pages, version_pages, filter_pages, training_pages, experiment_pages,
    review_pages, admin_pages,
)  # fmt: skip
way_in = APIRouter(include_in_schema=False)
nowhere = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)


@way_in.get("/")
@way_in.get("/console")
def enter() -> Response:
    """The address that `talkmill up` prints leads to the console."""
    return RedirectResponse("/console/", 307)


@nowhere.get("/{path:path}")
def no_such_page(request: Request, console: SignedIn, path: str) -> Response:
    """An address that no page has."""
    raise NotFound("there is no such page")


def install(app: FastAPI, max_body_size: int) -> None:
    """Adds the console to the application; its routes are no part of the described API."""
    app.mount("/console/static", StaticFiles(directory=STATIC), name="console-static")
    for router in (way_in, *(page.router for page in PAGES), nowhere):
        app.include_router(router, max_body_size=max_body_size)
