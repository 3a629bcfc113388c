"""What recipes name: word lists, classifiers, smoothers and reward models."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import select

from app.console import overview
from app.console.pages import PageRoute, SignedIn, render
from app.dependencies import Paged, ReadSession, page_of
from app.errors import NotFound
from app.filters.repository import versions_with
from app.lexicons.repository import get_lexicon
from app.models import FINAL, File, LearnedFilter, Lexicon, Version
from app.training.showing import list_models

router = APIRouter(prefix="/console", route_class=PageRoute, include_in_schema=False)
LEARNS_FROM = {"classifier": "labels", "smoother": "pairs", "reward_model": "preferences"}
ROUTES = {"classifier": "classifiers", "smoother": "smoothers", "reward_model": "reward_models"}
MOST_WORDS = 500


@router.get("/lexicons")
def lexicons(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """All word lists, a form for a new one, and a field to try matching in."""
    rows, more = page_of(session, select(Lexicon), Lexicon, page)
    files = select(File).where(File.purpose == "lexicon", File.status == "processed")
    return render(
        request, "lexicons.html.jinja", lexicons=rows, has_more=more,
        files=session.scalars(files.order_by(File.created_at.desc()).limit(100)).all(),
    )  # fmt: skip


@router.get("/lexicons/{lexicon_id}")
def lexicon(
    request: Request,
    console: SignedIn,
    lexicon_id: Annotated[str, Path(pattern=r"^lex-[0-9a-f]{24}$")],
    session: ReadSession,
) -> Response:
    """One word list, its first words, and a field to try matching in."""
    return render(request, "lexicon.html.jinja", lexicon=get_lexicon(session, lexicon_id), most=MOST_WORDS)


@router.get("/filters")
def filters(request: Request, console: SignedIn, session: ReadSession, page: Paged) -> Response:
    """All learned filters, and a form for a new one."""
    rows, more = page_of(session, select(LearnedFilter), LearnedFilter, page)
    files = select(File).where(File.purpose.in_(LEARNS_FROM.values()), File.status != "error")
    return render(
        request, "filters.html.jinja", filters=rows, has_more=more, learns_from=LEARNS_FROM, routes=ROUTES,
        files=session.scalars(files.order_by(File.created_at.desc()).limit(200)).all(), models=list_models(session),
    )  # fmt: skip


@router.get("/filters/{filter_id}")
def learned_filter(
    request: Request,
    console: SignedIn,
    filter_id: Annotated[str, Path(pattern=r"^(clf|smo|rm)-[0-9a-f]{24}$")],
    session: ReadSession,
) -> Response:
    """One learned filter: how good it is on what was held out, a threshold to slide, texts to label, a field to try."""
    found = session.get(LearnedFilter, filter_id)
    if found is None:
        raise NotFound(f"there is no filter {filter_id}")
    usable = select(Version).where(Version.status == "succeeded").order_by(Version.created_at.desc()).limit(100)
    versions = session.scalars(usable).all()
    used_by = [version for name in versions_with(session, filter_id) if (version := session.get(Version, name))]
    return render(
        request, "filter.html.jinja", filter=found, is_final=found.status in FINAL, route=ROUTES[found.kind],
        figures=_figures(found.metrics), versions=versions, used_by=used_by,
        names=overview.names_of(session, [*versions, *used_by]),
    )  # fmt: skip


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    """The measures that are single numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}
