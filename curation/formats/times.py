"""Times of turns in the ways that exports write them, as seconds; only their order and the day matter."""

import math
import re
from datetime import UTC, date, datetime
from functools import lru_cache

from dateutil import parser

EPOCH_FROM = 1e8
"""Smaller numbers are places in a recording, not dates."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
COMPACT = re.compile(r"(?:19|20)\d{6}(?:\d{6})?")
HAN = str.maketrans({"年": "-", "月": "-", "日": " ", "号": " ", "时": ":", "点": ":", "分": ":", "秒": " "})


def seconds_of(value: object) -> float | None:
    """A time as Unix seconds; local times are taken as UTC. None where it cannot be read."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _scaled(float(value))
    return _parsed(value.strip()) if isinstance(value, str) else None


def iso_time(seconds: float) -> str | None:
    """The time as ISO 8601, if it is one of a calendar."""
    if seconds < EPOCH_FROM or seconds > 1e11:
        return None
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _scaled(number: float) -> float | None:
    """Seconds, of a number that may count milli-, micro- or nanoseconds."""
    if not math.isfinite(number):
        return None
    for above, unit in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        if number > above:
            return number / unit
    return number


@lru_cache(maxsize=4096)
def _parsed(text: str) -> float | None:
    if COMPACT.fullmatch(text) is None and NUMBER.fullmatch(text):
        return _scaled(float(text))
    try:
        return seconds_of(datetime.fromisoformat(text))
    except ValueError:
        pass
    try:
        plain = re.sub(r"[:\s]+$", "", text.translate(HAN))
        return seconds_of(parser.parse(plain, default=datetime(1970, 1, 1), ignoretz=True))  # noqa: DTZ001
    except (ValueError, OverflowError):
        return None
