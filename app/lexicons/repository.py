"""Selects of lexicons."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Lexicon

if TYPE_CHECKING:
    from curation.operator import Lexicon as WordList


def get_lexicon(session: Session, lexicon_id: str) -> Lexicon:
    """The lexicon, or NotFound."""
    lexicon = session.get(Lexicon, lexicon_id)
    if lexicon is None:
        raise NotFound(f"there is no lexicon {lexicon_id}")
    return lexicon


def next_number(session: Session, name: str) -> int:
    """The number of the name's next version."""
    return (session.scalar(select(func.max(Lexicon.number)).where(Lexicon.name == name)) or 0) + 1


def lexicons_by_id(session: Session, ids: Iterable[str]) -> "dict[str, WordList]":
    """The engine's word lists of those ids that exist."""
    from curation.operator import Lexicon as WordList

    rows = [row for name in set(ids) if (row := session.get(Lexicon, name)) is not None]
    return {row.id: WordList(tuple(row.words), tuple(row.allow), row.category) for row in rows}
