"""Words tried on a text, before a recipe uses them."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.auth import needs
from app.dependencies import ReadSession
from app.errors import NotFound, Unprocessable, responses
from app.fields import JsonObject, Name, Text
from app.lexicons import repository

if TYPE_CHECKING:
    from curation.matching import MatchOptions

router = APIRouter(prefix="/v1/lexicons", tags=["lexicons"])


class MatchRequest(BaseModel):
    """A text, and the words or the lexicon to look for."""

    model_config = ConfigDict(extra="forbid")
    words: list[Name] | None = Field(None, max_length=200_000)
    lexicon: Annotated[str, Field(pattern=r"^lex-[0-9a-f]{24}$")] | None = None
    allow: list[Name] = Field(default_factory=list, max_length=200_000)
    options: JsonObject = Field(default_factory=dict)
    """Those of `match_sensitive_words`: ignore_case, skip, detect …"""
    text: Text


class MatchObject(BaseModel):
    """A hit; offsets are code points of the text as sent."""

    word: str
    text: str
    start: int
    end: int
    category: str | None


class MatchAnswer(BaseModel):
    """Every hit, by place, and the text with them hidden."""

    matches: list[MatchObject]
    masked: str


@router.post("/match", dependencies=[needs("read")], responses=responses(NotFound))
def match(body: MatchRequest, session: ReadSession) -> MatchAnswer:
    """Finds words, or a lexicon's, in a text."""
    from curation.matching import Matcher, mask_matches
    from curation.operator import Lexicon

    options = _options(body.options)
    if body.words is not None and body.lexicon is not None:
        raise Unprocessable("words: give either `words` or `lexicon`", param="words")
    if body.words is None and body.lexicon is None and not options.detect:
        raise Unprocessable("words: give `words`, a `lexicon` or the option `detect`", param="words")
    lists = [Lexicon(tuple(body.words or ()), tuple(body.allow))]
    if body.lexicon is not None:
        repository.get_lexicon(session, body.lexicon)
        lists += repository.lexicons_by_id(session, [body.lexicon]).values()
    found = Matcher(lists, options).find(body.text)
    hits = [MatchObject(text=body.text[hit.start : hit.end], **vars(hit)) for hit in found]
    return MatchAnswer(matches=hits, masked=mask_matches(body.text, found, options.mask))


def _options(given: dict[str, Any]) -> "MatchOptions":
    from curation.matching import MatchOptions

    try:
        return MatchOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(["options", *map(str, first["loc"])])
        raise Unprocessable(f"{param}: {first['msg']}", param=param) from None
