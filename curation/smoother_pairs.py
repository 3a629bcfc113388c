"""Pairs of spoken and written text as examples: what was left out, fluent text, and fluent text made spoken.

A pair is aligned by the cheapest way of making the written text of the spoken one; where several are as cheap, what was
said first is what was left out. Replaced and added characters teach nothing. Each written text is an example of text in
which nothing is to be left out, and of what slips would look like in it: a word begun twice or said twice, a phrase
begun again, a wrong word taken back, and the fillers that the pairs themselves leave out.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.errors import CurationError
from curation.smoother import runs
from curation.smoothing.words import Vocabulary

MIN_PAIRS, MAX_PAIRS = 50, 500_000
MAX_CHARS = 1_000
"""Longer texts are left out of training."""
OPENING, ADDED, REPLACED = 0.5, 1.2, 1.7
"""Costs of an alignment: of each place where something is left out, of a character added, of one replaced; one left out
costs 1."""
REWRITTEN_WEIGHT, MADE_WEIGHT, FLUENT_WEIGHT = 0.3, 0.3, 0.05
"""How much examples teach: pairs in which more was changed than left out; text made spoken; fluent text."""
MADE_ROUNDS = 2
LEAST_FILLERS, LONGEST_FILLER = 4, 5
END = "。.？?！!，, "
"""What ends a text says nothing about the text."""


@dataclass(frozen=True)
class Pair:
    """What was said, and how it is written."""

    spoken: str
    written: str

    @property
    def only_left_out(self) -> bool:
        """Whether the written text is the spoken one with characters left out, but for the end."""
        rest = iter(self.spoken.rstrip(END))
        return all(character in rest for character in self.written.rstrip(END))

    @property
    def is_unlike(self) -> bool:
        """Whether more than half of the written text was never said: then it is hardly this text's."""
        return (Counter(self.written) - Counter(self.spoken)).total() * 2 > len(self.written)


@dataclass(frozen=True)
class Example:
    """A text, which of its characters are to be left out, and how much it teaches."""

    text: str
    left_out: npt.NDArray[np.bool_]
    weight: float


def read_pairs(records: Iterable[tuple[str, str]]) -> tuple[list[Pair], dict[str, int]]:
    """Distinct pairs that training can use, in the order of their hashes, and counts.

    Of a text that was written down in several ways (`conflicts`) the first one counts.

    Raises:
        CurationError: too few of them, too many, or none in which anything was changed.
    """
    found: dict[bytes, Pair] = {}
    counts = Counter(
        dict.fromkeys(("records", "duplicates", "conflicts", "empty", "too_long", "unchanged", "unlike"), 0)
    )
    for spoken, written in records:
        counts["records"] += 1
        if counts["records"] > MAX_PAIRS:
            raise CurationError(f"more than {MAX_PAIRS:,} pairs: take a sample of them")
        if not spoken.strip():
            counts["empty"] += 1
        elif len(spoken) > MAX_CHARS:
            counts["too_long"] += 1
        else:
            key = hashlib.blake2b(spoken.encode(), digest_size=16).digest()
            pair = Pair(spoken, written)
            counts["duplicates"] += key in found
            counts["conflicts"] += found.setdefault(key, pair).written != written
            counts["unchanged"] += spoken == written
            counts["unlike"] += pair.is_unlike
    pairs = [found[key] for key in sorted(found)]
    if len(pairs) < MIN_PAIRS:
        raise CurationError(f"a smoother needs at least {MIN_PAIRS} different pairs, not {len(pairs)}")
    if all(pair.spoken.rstrip(END) == pair.written.rstrip(END) for pair in pairs):
        raise CurationError("no pair differs: are `spoken` and `written` the right columns?")
    if not any(left_out(pair).any() for pair in pairs):
        raise CurationError("nothing is left out in any pair: are `spoken` and `written` the right way round?")
    return pairs, dict(counts)


def split_off(pairs: Sequence[Pair], holdout: float) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; which ones follows from their hashes."""
    num_held = max(1, round(holdout * len(pairs)))
    return list(pairs[num_held:]), list(pairs[:num_held])


def left_out(pair: Pair) -> npt.NDArray[np.bool_]:
    """Which characters of the spoken text the written one leaves out."""
    gone: npt.NDArray[np.bool_] = aligned(pair) < 0
    return gone


def aligned(pair: Pair) -> npt.NDArray[np.int64]:
    """Of each character of the spoken text, which one of the written text stands for it; -1 where none does."""
    return _aligned(_points(pair.spoken), _points(pair.written))


def examples(pairs: Sequence[Pair], seed: int) -> Iterator[Example]:
    """All that is learned from pairs; at least as much of it fluent as spoken."""
    masks = [left_out(pair) for pair in pairs]
    for pair, mask in zip(pairs, masks, strict=True):
        yield Example(pair.spoken, mask, 1.0 if pair.only_left_out else REWRITTEN_WEIGHT)
        yield Example(pair.written, np.zeros(len(pair.written), dtype=bool), FLUENT_WEIGHT)
    rng, fillers = random.Random(seed), _fillers(pairs, masks)  # noqa: S311  (the same slips for the same pairs)
    for _ in range(MADE_ROUNDS):
        for pair in pairs:
            if (made := _made_spoken(pair.written, fillers, rng)) is not None:
                yield made
                yield Example(pair.written, np.zeros(len(pair.written), dtype=bool), FLUENT_WEIGHT)


def _fillers(pairs: Sequence[Pair], masks: Sequence[npt.NDArray[np.bool_]]) -> list[str]:
    """What pairs leave out again and again and do not say again, each as often as that happens."""
    counts: Counter[str] = Counter()
    for pair, mask in zip(pairs, masks, strict=True):
        for begin, end in runs(mask):
            said = pair.spoken[begin:end]
            if len(said) <= LONGEST_FILLER and said not in pair.spoken[end : end + len(said) + 3]:
                counts[said] += 1
    return [said for said, times in sorted(counts.items()) if times >= LEAST_FILLERS for _ in range(times)]


def _made_spoken(text: str, fillers: Sequence[str], rng: random.Random) -> Example | None:
    """A fluent text with one to three slips put into it."""
    words = Vocabulary.of().jieba.cut(text)
    if len(words) < 3 or len(text) > MAX_CHARS:
        return None
    slips: dict[int, str] = {}
    for _ in range(1 + (rng.random() < 0.45) + (rng.random() < 0.2)):
        at = rng.randrange(len(words))
        if (slip := _slip(words, at, fillers, rng)) is not None:
            slips.setdefault(*slip)
    if not slips:
        return None
    spoken, mask = "", []
    for at, word in enumerate(words):
        slip_here = slips.get(at, "")
        spoken += slip_here + word
        mask += [True] * len(slip_here) + [False] * len(word)
    return Example(spoken, np.array(mask, dtype=bool), MADE_WEIGHT)


def _slip(words: Sequence[str], at: int, fillers: Sequence[str], rng: random.Random) -> tuple[int, str] | None:
    """Before which word something slips in, and what."""
    word, kind = words[at], rng.random()
    pause = rng.choices(["", "，", rng.choice(["嗯", "呃", "，嗯", "嗯，", "那个", "就是"])], [62, 23, 15])[0]
    slip: tuple[int, str] | None = None
    if not re.match(r"\w", word):
        pass
    elif kind < 0.3:
        slip = at, word[0] + (pause if rng.random() < 0.3 else "")
    elif kind < 0.5:
        slip = at, word + (pause if rng.random() < 0.5 else "")
    elif kind < 0.7:
        said = "".join(words[at : at + rng.randint(2, 3)])
        broken = rng.random() if len(said) > 2 else 1.0
        begun = said if broken > 0.55 else said[:-1] + (rng.choice(words)[0] if broken > 0.35 else "")
        slip = None if re.search("[，。？！,.?!]", said) else (at, begun + pause)
    elif kind < 0.8:
        wrong = rng.choice(words)[: rng.randint(1, 2)]
        if at > 0 and re.match(r"\w", wrong) and re.match(r"\w", words[at - 1]):
            slip = at - 1, words[at - 1] + wrong + pause
    elif fillers:
        slip = at, rng.choice(fillers)
    return slip


def _points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


@compiled
def _aligned(spoken: npt.NDArray[np.uint32], written: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Dynamic programming from the end; in the second table the character before was left out."""
    n, m = len(spoken), len(written)
    cost = np.full((n + 1, m + 1, 2), 1e9)
    step = np.zeros((n + 1, m + 1, 2), dtype=np.int8)
    cost[n, m, :] = 0.0
    for i in range(n, -1, -1):
        for j in range(m, -1, -1):
            for after in range(2):
                if i == n and j == m:
                    continue
                best, chosen = 1e9, 0
                if i < n:
                    best, chosen = cost[i + 1, j, 1] + 1.0 + (0.0 if after else OPENING), 1
                if i < n and j < m:
                    same = spoken[i] == written[j]
                    other = cost[i + 1, j + 1, 0] + (0.0 if same else REPLACED)
                    if other < best - 1e-9:
                        best, chosen = other, 2
                if j < m and cost[i, j + 1, 0] + ADDED < best - 1e-9:
                    best, chosen = cost[i, j + 1, 0] + ADDED, 3
                cost[i, j, after], step[i, j, after] = best, chosen
    places = np.full(n, -1, dtype=np.int64)
    i, j, after = 0, 0, 0
    while i < n or j < m:
        chosen = step[i, j, after]
        after = 1 if chosen == 1 else 0
        if chosen == 2:
            places[i] = j
        i += chosen != 3
        j += chosen != 1
    return places
