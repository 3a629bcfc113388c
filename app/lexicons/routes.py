"""Word lists for `match_sensitive_words`; a change is a new version under the same name."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import NotFound, responses
from app.fields import Name
from app.lexicons import repository
from app.models import Lexicon, new_id

router = APIRouter(prefix="/v1/lexicons", tags=["lexicons"])


class NewLexicon(BaseModel):
    """Words, and phrases in which they are allowed."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    words: list[Name] = Field(min_length=1, max_length=200_000)
    allow: list[Name] = Field(default_factory=list, max_length=200_000)
    category: Name | None = None


class LexiconObject(BaseModel):
    """A lexicon's version."""

    id: str
    object: str = "lexicon"
    name: str
    number: int
    category: str | None
    num_words: int
    num_allowed: int
    created_at: int


class LexiconWithWords(LexiconObject):
    """A lexicon's version with its words."""

    words: list[str]
    allow: list[str]


def show(row: Lexicon) -> LexiconObject:
    """The lexicon as the API tells it."""
    return LexiconObject(
        id=row.id, name=row.name, number=row.number, category=row.category, num_words=len(row.words),
        num_allowed=len(row.allow), created_at=int(row.created_at),
    )  # fmt: skip


@router.post("", status_code=201, dependencies=[needs("curate")], responses=responses())
def create(body: NewLexicon, session: WriteSession) -> LexiconObject:
    """Makes a lexicon, or the next version of one."""
    row = Lexicon(
        id=new_id("lex"), name=body.name, number=repository.next_number(session, body.name), words=body.words,
        allow=body.allow, category=body.category,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return show(row)


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_lexicons(session: ReadSession, page: Paged) -> ListOf:
    """All lexicons, the newest first."""
    rows, more = page_of(session, select(Lexicon), Lexicon, page)
    return ListOf(data=[show(row) for row in rows], has_more=more)


@router.get("/{lexicon_id}", dependencies=[needs("read")], responses=responses(NotFound))
def get(lexicon_id: Annotated[str, Path(pattern=r"^lex-[0-9a-f]{24}$")], session: ReadSession) -> LexiconWithWords:
    """One lexicon with its words."""
    row = repository.get_lexicon(session, lexicon_id)
    return LexiconWithWords(**show(row).model_dump(), words=row.words, allow=row.allow)
