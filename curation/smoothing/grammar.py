"""Slips of grammar that are certain: doubled particles and doubled punctuation."""

import re
from collections.abc import Iterator

from curation.smoothing.repetitions import Span

SLIP = re.compile(
    r"(?<!目)的(?=的(?!确|哥|士))"
    r"|了(?=了(?:[，。！？,.!?\s]|$))"
    r"|([吗呢吧])(?=\1)"
    r"|([，、；])(?=[，、；])"
)


def slips(text: str) -> Iterator[Span]:
    """What should go; the second of two stays."""
    return (match.span() for match in SLIP.finditer(text))
