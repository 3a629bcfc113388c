"""The picture of the README: megabytes a CPU second, a bar a tool."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

WIDTH, LEFT, ROW = 720, 250, 34


def draw(target: Path, title: str, figures: Mapping[str, float]) -> None:
    """Writes an SVG of horizontal bars, in the order given; the first is ours."""
    most = max(figures.values())
    height = 50 + ROW * len(figures)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="26" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(figures.items()):
        y, length = 44 + number * ROW, max(1, round((WIDTH - LEFT - 70) * value / most))
        color = "#2b6cb0" if number == 0 else "#a0aec0"
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{length}" height="22" fill="{color}"/>',
            f'<text x="{LEFT + length + 6}" y="{y + 16}">{value:.2f}</text>',
        ]
    target.write_text("\n".join([*lines, "</svg>"]) + "\n", "utf-8")
