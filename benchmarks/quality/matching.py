"""The built-in lexicon: hits in dialogues that hold nothing unsuitable."""

from collections.abc import Iterator

from benchmarks.quality.figures import CLEAN, Figure, turns
from curation.matching import Matcher
from curation.operators.match_sensitive_words import MatchSensitiveWords, builtin_lexicon


def figures() -> Iterator[Figure]:
    matcher = Matcher([builtin_lexicon()], MatchSensitiveWords())
    for name in CLEAN:
        hits = [bool(matcher.find(text)) for text in turns(name)]
        yield Figure(f"{name}: turns hit by the built-in lexicon", sum(hits) / len(hits), 0.002, at_most=True)
