"""Word lists for `match_sensitive_words`; a change is a new version under the same name."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, Unprocessable, responses
from app.fields import Name, is_current
from app.files.repository import get_file, raw_segments
from app.lexicons import repository
from app.models import Lexicon, new_id
from app.once import OnceRoute
from app.store import get_store

router = APIRouter(prefix="/v1/lexicons", tags=["lexicons"], route_class=OnceRoute)


class NewLexicon(BaseModel):
    """Words, and phrases in which they are allowed."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    words: list[Name] | None = Field(None, min_length=1, max_length=200_000)
    file: str | None = Field(None, pattern=r"^file-[0-9a-f]{24}$")
    """A file of the purpose lexicon, in place of `words`."""
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


@router.post("", status_code=201, dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def create(body: NewLexicon, session: WriteSession) -> LexiconObject:
    """Makes a lexicon from words or from an uploaded file, or the next version of one."""
    if (body.words is None) == (body.file is None):
        raise Unprocessable("words: give either `words` or `file`", param="words")
    words, allow = (body.words or [], body.allow) if body.file is None else _from_file(session, body.file)
    row = Lexicon(
        id=new_id("lex"), name=body.name, number=repository.next_number(session, body.name), words=words,
        allow=[*body.allow, *allow] if body.file else allow, category=body.category,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return show(row)


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_lexicons(session: ReadSession, page: Paged) -> ListOf:
    """All lexicons, the newest first."""
    rows, more = page_of(session, select(Lexicon), Lexicon, page)
    return ListOf(data=[show(row) for row in rows], has_more=more)


@router.get(
    "/{lexicon_id}", dependencies=[needs("read")], responses=responses(NotFound), response_model=LexiconWithWords
)
def get(
    lexicon_id: Annotated[str, Path(pattern=r"^lex-[0-9a-f]{24}$")],
    session: ReadSession,
    request: Request,
    response: Response,
) -> Any:
    """One lexicon with its words; it never changes, so its id is its ETag."""
    row = repository.get_lexicon(session, lexicon_id)
    etag = f'"{row.id}"'
    if is_current(request, etag):
        return Response(status_code=304, headers={"etag": etag})
    response.headers["etag"] = etag
    return LexiconWithWords(**show(row).model_dump(), words=row.words, allow=row.allow)


def _from_file(session: Session, file_id: str) -> tuple[list[str], list[str]]:
    """The words and allowed phrases of a file.

    Raises:
        Conflict: it is not ingested yet; asking again helps.
        Unprocessable: it is no list of words.
    """
    from curation.formats.records import read_words

    file = get_file(session, file_id)
    if file.purpose != "lexicon" or file.status == "error":
        why = file.status_details or f"its purpose is {file.purpose}, not lexicon"
        raise Unprocessable(f"file: not a list of words: {why}", param="file")
    if file.status != "processed":
        raise Conflict("file: still being processed, ask again", param="file", code="not_ready", permanent=False)
    words, allowed = read_words(get_store().path(segment.sha256) for segment in raw_segments(session, file_id))
    if not words:
        raise Unprocessable("file: holds no word", param="file")
    return words, allowed
