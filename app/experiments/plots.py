"""Plots as SVG that stands in a page: differences with their intervals, and curves.

Colours are classes that the page's style defines, so a plot follows its light and dark; texts are escaped.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, LABEL, RIGHT = 760, 310, 14
ROW, TOP, BOTTOM = 30, 8, 40
HEIGHT, LEFT = 260, 52
SERIES = 8
"""Colours that the page has; later series begin anew."""


def differences(rows: Sequence[dict[str, Any]], axis: str) -> str:
    """Each row's `label` and its `difference` as a point with the line of its `interval`; zero is marked."""
    ends = [value for row in rows for value in (*row["interval"], row["difference"], 0.0)]
    low, high = _padded(min(ends), max(ends))

    def x(value: float) -> float:
        return LABEL + (value - low) / (high - low) * (WIDTH - LABEL - RIGHT)

    height = TOP + ROW * len(rows) + BOTTOM
    parts = [_axis_below([(x(tick), _told(tick)) for tick in _ticks(low, high)], TOP, height - BOTTOM)]
    parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
    for place, row in enumerate(rows):
        y, kind = TOP + ROW * (place + 0.5), "beyond" if row["beyond_noise"] else "noise"
        first, last = (x(value) for value in row["interval"])
        parts.append(f'<text class="label" x="{LABEL - 12}" y="{y + 4:.1f}">{escape(_shortened(row["label"]))}</text>')
        parts.append(f'<line class="{kind}" x1="{first:.1f}" x2="{last:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="{kind}" cx="{x(row["difference"]):.1f}" cy="{y:.1f}" r="4.5"/>')
    return _svg(height, [*parts, _title((LABEL + WIDTH - RIGHT) / 2, height - 4, axis)], axis)


def curves(series: Sequence[tuple[str, Sequence[Sequence[float]]]], across: str, up: str) -> str:
    """A line of points (x, y) for each series; its name stands in the page's legend, by `legend_class`."""
    points = [point for _, line in series for point in line]
    low_x, high_x = 0.0, max(point[0] for point in points) or 1.0
    low_y, high_y = _padded(min(point[1] for point in points), max(point[1] for point in points))
    bottom = HEIGHT - BOTTOM

    def x(value: float) -> float:
        return LEFT + (value - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return bottom - (value - low_y) / (high_y - low_y) * (bottom - TOP)

    parts = [_axis_below([(x(tick), _told(tick)) for tick in _ticks(low_x, high_x)], TOP, bottom)]
    for tick in _ticks(low_y, high_y):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="label" x="{LEFT - 8}" y="{y(tick) + 4:.1f}">{_told(tick)}</text>')
    for place, (_, line) in enumerate(series):
        path = " ".join(f"{x(across):.1f},{y(up):.1f}" for across, up in line)
        last = line[-1]
        parts.append(f'<polyline class="{legend_class(place)}" points="{path}"/>')
        parts.append(f'<circle class="{legend_class(place)}" cx="{x(last[0]):.1f}" cy="{y(last[1]):.1f}" r="3.5"/>')
    parts.append(_title((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, across))
    return _svg(HEIGHT, parts, f"{up} by {across}")


def legend_class(place: int) -> str:
    """The class of a series."""
    return f"series{place % SERIES}"


def _svg(height: float, parts: Sequence[str], name: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def _axis_below(ticks: Sequence[tuple[float, str]], top: float, bottom: float) -> str:
    lines = "".join(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>' for x, _ in ticks)
    texts = "".join(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}">{text}</text>' for x, text in ticks)
    return lines + texts


def _title(x: float, y: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y}">{escape(text)}</text>'


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Five or so round numbers in a range."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _told(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:.4g}"


def _shortened(text: str, most: int = 44) -> str:
    """As much as there is room for; Han characters take twice the room."""
    room, kept = most, ""
    for char in text:
        room -= 2 if ord(char) > 0x2E7F else 1
        if room < 0:
            return kept + "…"
        kept += char
    return kept
