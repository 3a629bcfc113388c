"""Personal data in texts: where it stands, of which kind it is, and whether two places tell the same."""

import re
from collections.abc import Callable, Collection, Iterator
from typing import Literal, get_args

from curation.personal.addresses import find_addresses
from curation.personal.documents import find_documents
from curation.personal.finding import Finding
from curation.personal.folded import folded
from curation.personal.network import find_network
from curation.personal.numbers import find_numbers

Kind = Literal["phone", "identity_card", "bank_card", "email", "ip", "vehicle_plate", "address", "passport"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SEARCHES: tuple[Callable[[str], Iterator[Finding]], ...] = (find_network, find_numbers, find_documents, find_addresses)
"""In the order of their precedence: where two findings overlap, the earlier search wins."""
PLACEHOLDER = re.compile(r"\[[A-Z][A-Z_]*_\d+\]")

__all__ = ["KINDS", "Finding", "Kind", "find_personal"]


def find_personal(text: str, kinds: Collection[str] = KINDS) -> list[Finding]:
    """Personal data of some kinds in a text, in order and without overlap.

    What looks like several kinds is of one only, whatever kinds are asked for.
    """
    plain = folded(text)
    taken = [match.span() for match in PLACEHOLDER.finditer(plain)]
    found: list[Finding] = []
    for search in _SEARCHES:
        for finding in search(plain):
            if all(finding.end <= start or end <= finding.start for start, end in taken):
                taken.append((finding.start, finding.end))
                found.append(finding)
    return sorted(finding for finding in found if finding.kind in kinds)
