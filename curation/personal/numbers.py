"""Numbers of people: phones, identity cards and bank cards, told from orders, amounts and dates by shape and checksum.

A text is read as runs of digit groups with small gaps between. A stretch of a run is a number of some kind if its
digits, the sizes of its groups and what stands around it fit a rule of that kind.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from curation.personal.cards import is_bank_card, is_identity_card
from curation.personal.finding import Finding
from curation.personal.folded import HAN_DIGITS, spoken
from curation.personal.phones import is_phone
from curation.personal.stretches import CONTEXT_CHARS, Stretch

GROUP = re.compile(r"\d+")
GAPS = {
    "-": re.compile(r"[-.·_]"),
    " ": re.compile(r" {1,2}| - "),
    ")": re.compile(r"[- ]?\([- ]?|\)[- ]?"),
    ",": re.compile(r" ?(?:[,，、。…]|\.\.){1,3} ?|[,，、。… ]{0,2}(?:嗯|呃|啊|然后|再|接着|后面)[,，、。… ]{0,2}"),
}
"""Classes of what may stand between groups: `-` binds tightly, `,` is a pause in speech."""
INTRODUCED_BY = (re.compile(r"(?:\(?\+)?$"), re.compile(r"(?:\(?\+?\(?)$"))
"""What belongs to a phone number before its first digit: without and with a closing bracket in it."""
GLUED_BEFORE = re.compile(r"[A-Za-z_]+$")
GLUED_AFTER = re.compile(r"[_@](?=[A-Za-z0-9])")
INTRODUCING = "tel|phone|mobile|cell|call|wx|vx|v|wechat|id|card|visa|mastercard|amex|no|m|t"
"""Words that a number may be glued to."""
ENDS_IN_X = re.compile(r"[xX](?![A-Za-z0-9])")
MIN_SPOKEN = 7
"""Chinese numerals from which on a run of them is read as a number."""


RULES: dict[str, Callable[[Stretch], bool]] = {
    "identity_card": is_identity_card,
    "bank_card": is_bank_card,
    "phone": is_phone,
}
"""By kind, in the order in which they are tried."""


def find_numbers(text: str) -> Iterator[Finding]:
    """Phones, identity cards and bank cards of a folded text."""
    yield from _find(text)
    if sum(map(text.count, HAN_DIGITS)) >= MIN_SPOKEN:
        numerals = frozenset(HAN_DIGITS)
        for found in _find(spoken(text)):
            if len(numerals.intersection(text[found.start : found.end])) > 1:
                yield found


def _find(text: str) -> Iterator[Finding]:
    matches = list(GROUP.finditer(text))
    gaps = [_gap(text[a.end() : b.start()]) for a, b in pairwise(matches)]
    first = 0
    while first < len(matches):
        last = first
        while last < len(gaps) and gaps[last] and last - first < 18:
            last += 1
        for end in range(last, first - 1, -1):
            if (found := _classified(text, matches, gaps, first, end)) is not None:
                yield found
                first = end
                break
        first += 1


def _gap(between: str) -> str:
    return next((kind for kind, pattern in GAPS.items() if pattern.fullmatch(between)), "")


def _classified(text: str, matches: list[re.Match[str]], gaps: list[str], first: int, last: int) -> Finding | None:
    """The number that the groups from `first` to `last` make, all of them."""
    groups = tuple(match.group() for match in matches[first : last + 1])
    if not 7 <= sum(map(len, groups)) <= 25:
        return None
    bound = (first > 0 and gaps[first - 1] == "-") or (last < len(gaps) and gaps[last] == "-")
    start, end = matches[first].start(), matches[last].end()
    stretch = Stretch(text, start, end, groups, "".join(gaps[first:last]))
    if bound or not _stands_alone(stretch):
        return None
    if ENDS_IN_X.match(text, end):
        with_x = Stretch(text, start, end + 1, (*groups[:-1], groups[-1] + "X"), stretch.gaps)
        if is_identity_card(with_x):
            return Finding(start, end + 1, "identity_card", with_x.digits)
    for kind, holds in RULES.items():
        if holds(stretch):
            if kind == "phone":
                start -= len(INTRODUCED_BY[")" in text[start:end]].search(text[:start])[0])  # type: ignore[index]
            return Finding(start, end, kind, _canonical(kind, stretch))
    return None


def _stands_alone(stretch: Stretch) -> bool:
    """Whether no letters are glued to it but words that introduce numbers."""
    before = GLUED_BEFORE.search(stretch.text[max(0, stretch.start - CONTEXT_CHARS) : stretch.start])
    after = stretch.text[stretch.end : stretch.end + 2]
    glued = after[:1].isascii() and (after[:1].isalpha() or GLUED_AFTER.match(after)) and after[:1] not in "xX"
    decimal = after[:1] == "." and after[1:].isdigit()
    return (
        not glued
        and not decimal
        and (before is None or re.fullmatch(INTRODUCING, before.group(), re.IGNORECASE) is not None)
    )


def _canonical(kind: str, stretch: Stretch) -> str:
    digits = stretch.digits
    return re.sub(r"^(?:00)?86(?=1\d{10}$)", "", digits) if kind == "phone" else digits
