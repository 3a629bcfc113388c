"""The console's texts in Chinese and English, chosen by the browser's language or by what the user picked."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import orjson
from fastapi import Request

LANGUAGES = ("en", "zh")
COOKIE = "talkmill_language"
FOLDER = Path(__file__).parent / "texts"
SCRIPTS_OWN = "js."
"""Texts whose names begin so are for scripts only, which know them without it."""
SHARED = ("curve.", "measure.", "metric.", "role.", "tag.", "value.")
"""Names that come out of the API, which scripts say too."""


class Texts:
    """The texts of a language; called with a name, it gives that text with its blanks filled in."""

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self._texts = texts

    def __call__(self, name: str, /, **values: object) -> str:
        text = self._texts[name]
        return text.format(**values) if values else text

    def known(self, name: str, otherwise: str) -> str:
        """The text of this name, if there is one: for names that come from elsewhere, such as operators."""
        return self._texts.get(name, otherwise)

    def for_scripts(self) -> dict[str, str]:
        """What scripts say, by name."""
        return {
            name.removeprefix(SCRIPTS_OWN): text
            for name, text in self._texts.items()
            if name.startswith((SCRIPTS_OWN, *SHARED))
        }


@lru_cache(maxsize=2)
def texts_of(language: str) -> Texts:
    """The texts of one of the languages."""
    texts: dict[str, str] = orjson.loads((FOLDER / f"{language}.json").read_bytes())
    return Texts(language, texts)


def texts_for(request: Request) -> Texts:
    """The texts in the language that the user picked, else in the first of the browser's that there is."""
    picked = request.cookies.get(COOKIE)
    if picked in LANGUAGES:
        return texts_of(picked)
    wanted = []
    for part in request.headers.get("accept-language", "").split(","):
        tag, _, weight = part.partition(";q=")
        try:
            wanted.append((float(weight or 1), tag.strip().lower()))
        except ValueError:
            continue
    for _, tag in sorted(wanted, key=lambda pair: -pair[0]):
        if (language := tag[:2]) in LANGUAGES:
            return texts_of(language)
    return texts_of("en")
