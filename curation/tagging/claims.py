"""Claims: what is said of a user, before the best of each field is chosen."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property


@dataclass(frozen=True)
class Tag:
    """A tag's value, its source (code) and its evidence: a slice of a turn, or of the metadata."""

    field: str
    value: str
    code: str
    turn: int | None
    start: int | None
    end: int | None
    before: str


Values = Iterable[tuple[str, str]]
"""Field and value, each."""


@dataclass(frozen=True)
class Rule:
    """An expression and what it says of the speaker.

    `own` rules name the speaker (我今年34岁); others (今年34岁) begin a clause whose subject is left out, and count only
    where nobody else was spoken of.
    """

    expression: str
    read: Callable[[re.Match[str], date], Values]
    own: bool = True
    code: str = "statement"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The expression, compiled at its first use: all rules together take a third of a second."""
        return re.compile(self.expression, re.IGNORECASE)


SELF = r"(?:我自己|我本人|我们|我这边|我这人|我这|我|本人|自己|俺们?|咱们?|人家|老汉我|患者本人)"
ADVERB = (
    r"(?:今年|今天|现在|目前|如今|现年|现|已经|已|也|就|都|才|刚刚|刚好|刚|正好|正|又|还|可|其实|真的|一直|是|算是|属于|本来|"
    r"平时|长期|常年|就是|快|将近|最近|目前就|人)"
)
BEGIN = r"(?:^|(?<=[，,。！!？?；;、：:\s]))"
"""The beginning of a clause."""
END = r"(?=[，,。！!？?；;、：:\s]|$)"
"""The end of a clause."""


def rule(
    expression: str, read: Callable[[re.Match[str], date], Values], *, own: bool = True, code: str = "statement"
) -> Rule:
    """A rule whose expression ignores case."""
    return Rule(expression, read, own, code)


def saying(field: str, value: str) -> Callable[[re.Match[str], date], Values]:
    """A reading that gives one value whatever matched."""
    return lambda match, as_of: ((field, value),)
