"""How numbers, sizes and times are written on pages."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape


def thousands(number: float | None) -> str:
    """1234567 as 1,234,567; nothing as a dash."""
    return "–" if number is None else f"{number:,.0f}"


def size(num_bytes: float) -> str:
    """Bytes in the largest unit that leaves a number of one or more."""
    for unit in ("B", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" or num_bytes >= 100 else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def figure(value: float | None, digits: int = 4) -> str:
    """A measured number with this many significant digits."""
    return "–" if value is None else f"{value:.{digits}g}"


def percent(share: float | None) -> str:
    """A share in percent."""
    return "–" if share is None else f"{share:.1%}"


def moment(seconds: float | None) -> Markup | str:
    """A time; the page's script writes it in the reader's own zone."""
    if seconds is None:
        return "–"
    at = datetime.fromtimestamp(seconds, UTC)
    return Markup("<time datetime='{}'>{}</time>").format(at.isoformat(), f"{at:%Y-%m-%d %H:%M} UTC")


def short_id(name: str) -> str:
    """The kind of an id and its first six digits."""
    kind, _, digits = name.partition("-")
    return f"{kind}-{digits[:6]}"


def visible(text: str | None) -> Markup:
    """A text in which line breaks and other white space can be seen."""
    if not text:
        return Markup("<i class='nothing'>∅</i>")
    return Markup("<span>{}</span>").format(escape(text.replace("\n", "⏎\n")))


def segment(text: str) -> str:
    """A text as one part of an address."""
    return quote(text, safe="")


FILTERS: dict[str, Callable[..., Any]] = {
    "thousands": thousands, "size": size, "figure": figure, "percent": percent, "moment": moment, "short_id": short_id,
    "visible": visible, "segment": segment,
}  # fmt: skip
