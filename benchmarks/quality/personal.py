"""Redaction: made cases of what is personal and what only looks like it, and hits in public dialogues."""

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.quality.figures import CLEAN, Figure, turns
from curation.personal import find_personal

CASES = Path(__file__).parent / "personal_cases.txt"
MARK = re.compile(r"<(\w+)\|([^>]+)>")
CERTAIN = ("identity_card", "bank_card", "email", "ip", "vehicle_plate", "passport")
"""Kinds that public dialogues on travel and films do not hold; phones and addresses of places they do."""
Span = tuple[int, int, str]


def cases() -> Iterator[tuple[str, set[Span]]]:
    """Each text with the spans that are personal."""
    for line in CASES.read_text("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        text, spans, position = "", set(), 0
        for match in MARK.finditer(line):
            text += line[position : match.start()]
            spans.add((len(text), len(text) + len(match.group(2)), match.group(1)))
            text += match.group(2)
            position = match.end()
        yield text + line[position:], spans


def found(text: str) -> set[Span]:
    return {(one.start, one.end, one.kind) for one in find_personal(text)}


def figures() -> Iterator[Figure]:
    pairs = [(found(text), wanted) for text, wanted in cases()]
    right = sum(len(ours & wanted) for ours, wanted in pairs)
    yield Figure(f"personal data ({len(pairs)} cases): precision", right / sum(len(ours) for ours, _ in pairs), 0.98)
    yield Figure("personal data: recall", right / sum(len(wanted) for _, wanted in pairs), 0.98)
    for name in CLEAN:
        hits = [any(one.kind in CERTAIN for one in find_personal(text)) for text in turns(name)]
        yield Figure(f"{name}: turns with cards, plates, e-mail, IP", sum(hits) / len(hits), 0.002, at_most=True)
