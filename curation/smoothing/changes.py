"""What rules found is changed in a text, but for what is protected there."""

import re
from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter

from curation.draft import Draft
from curation.smoothing.grammar import Change
from curation.smoothing.repetitions import Span


def make_changes(draft: Draft, found: Iterable[Span | Change], code: str, protect: re.Pattern[str]) -> bool:
    """Makes the changes; of two that overlap, what is left of the second, if it only deletes. Tells if any was made."""
    before = draft.text
    changes, position = [], 0
    for start, end, new in _unprotected(found, [match.span() for match in protect.finditer(draft.text)]):
        if end > position and (start >= position or not new):
            changes.append((max(start, position), end, new))
            position = end
    draft.rewrite(changes, code)
    return draft.text != before


def _unprotected(found: Iterable[Span | Change], kept: list[Span]) -> list[Change]:
    """The changes, in order, that touch none of those spans kept, which are in order and apart."""
    free = []
    for start, end, *replacement in sorted(found):
        at = bisect_right(kept, start, key=itemgetter(1))
        if at == len(kept) or kept[at][0] >= end:
            free.append((start, end, "".join(replacement)))
    return free
