"""What a search for personal data gives."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Personal data in a text: its place in code points, its kind, and what is the same for all its spellings."""

    start: int
    end: int
    kind: str
    value: str
