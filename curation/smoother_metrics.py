"""How well spoken text is smoothed, against people's own corrections."""

from collections import Counter
from collections.abc import Sequence

from curation.smoother_pairs import END, Pair


def measure(pairs: Sequence[Pair], smoothed: Sequence[str]) -> dict[str, float | int]:
    """Exact match, and precision, recall and F0.5 of the characters left out.

    Final punctuation does not count. Characters left out are compared as multisets by text, so it does not matter which
    of two equal ones went. `only_left_out` holds the same figures of the pairs in which nothing was replaced or added:
    what a smoother can get right.
    """
    plain = [(pair, text) for pair, text in zip(pairs, smoothed, strict=True) if pair.only_left_out]
    subset = {f"only_left_out_{name}": value for name, value in _figures(plain).items()}
    return _figures(list(zip(pairs, smoothed, strict=True))) | subset


def _figures(cases: Sequence[tuple[Pair, str]]) -> dict[str, float | int]:
    exact = right = gone = wanted = 0
    for pair, text in cases:
        spoken, written, ours = (said.rstrip(END) for said in (pair.spoken, pair.written, text))
        exact += ours == written
        left, meant = (Counter(spoken) - Counter(kept) for kept in (ours, written))
        right += (left & meant).total()
        gone += left.total()
        wanted += meant.total()
    precision, recall = right / gone if gone else 0.0, right / wanted if wanted else 0.0
    f05 = 1.25 * precision * recall / (0.25 * precision + recall) if right else 0.0
    figures = {
        "exact_match": exact / len(cases) if cases else 0.0,
        "precision": precision,
        "recall": recall,
        "f05": f05,
    }
    return {"pairs": len(cases), **{name: round(value, 4) for name, value in figures.items()}}
