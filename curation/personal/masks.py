"""What stays readable of personal data that is masked."""

import re

VISIBLE = {"phone": (3, 4), "identity_card": (3, 4), "bank_card": (0, 4), "vehicle_plate": (2, 1), "passport": (1, 2)}
"""Letters and digits left at the beginning and at the end."""


def mask(text: str, kind: str) -> str:
    """The text with its middle starred out; signs between characters stay, so it keeps its shape and length."""
    if kind == "email":
        name, at, host = re.split(r"([@＠])", text, maxsplit=1) if re.search(r"[@＠]", text) else (text, "", "")
        return name[:1] + "*" * (len(name) - 1) + at + host
    if kind == "ip":
        first = re.match(r"\w+", text)
        kept = first.end() if first else 0
        return text[:kept] + re.sub(r"\w", "*", text[kept:])
    before, after = VISIBLE.get(kind, (0, 0))
    places = [index for index, character in enumerate(text) if character.isalnum()]
    hidden = set(places[before : max(before, len(places) - after)])
    return "".join("*" if index in hidden else character for index, character in enumerate(text))
