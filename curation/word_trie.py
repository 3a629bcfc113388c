"""Many words looked for at every place of a text at once, symbol by symbol, in arrays.

A word's symbols lead from node to node of a trie. All places of a text walk down it together: those whose next symbol
leads nowhere drop out, so that after two symbols few places are left, and after four hardly any but those of words.
Hits are arrays from the beginning, which an automaton's are not; and words that begin as ordinary language does cost
little more than others where they do not stand.

Words longer than DEPTH are told by an automaton, where their first DEPTH symbols stand: so the time stays linear.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from ahocorasick_rs import AhoCorasick, MatchKind

from curation.compiled import pays
from curation.symbols import Codes, Places, decoded

DEPTH = 16
STRETCH = 1 << 16
"""Symbols that the automaton is given at once, since its lists of hits are large."""
SMALLEST_SIEVE, LARGEST_SIEVE = 1 << 16, 1 << 22
SIEVE_PER_NUMBER = 64
"""One in 64 others passes, and is then compared; a larger sieve would leave the cache."""
TABLE_PER_KEY = 4
NODES = 1 << 21
"""Nodes are numbered from here on, beyond all code points: a key is a pair of symbols, or a node and a symbol."""
NOWHERE = -1
FIRST, SECOND = 0x9E3779B1, 0x85EBCA6B
"""What two numbers are multiplied by to make one of them, of which the first bits are the best."""
FREE = np.uint64(2**64 - 1)

Keys = npt.NDArray[np.uint64]


class Trie:
    """Words, to be found in any text of the same symbols."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words` of at least one symbol each; two may be the same."""
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        codes = np.frombuffer("".join(words).encode("utf-32-le"), dtype=np.uint32)
        begins = np.cumsum(lengths) - lengths
        self._single = _Lists(codes[begins[lengths == 1]], np.flatnonzero(lengths == 1), NODES)
        self._table, ends, has_more = _nodes(codes, begins, lengths)
        short = np.flatnonzero((lengths > 1) & (lengths <= DEPTH))
        self._words, self._has_more = _Lists(ends[short], short, len(has_more)), has_more
        self._long = np.flatnonzero(lengths > DEPTH)
        self._long_ends = np.unique(ends[self._long])
        self._longest = int(lengths.max(initial=0))
        self._automaton = AhoCorasick([words[index] for index in self._long.tolist()], matchkind=MatchKind.Standard)
        two, more = begins[lengths == 2], begins[lengths > 2]
        pairs, triples = _mixed(codes[two], codes[two + 1]), _mixed(codes[more], codes[more + 1])
        self._pairs, self._begun = _Sieve(pairs), _Sieve(np.concatenate([pairs, triples]))
        self._triples = _Sieve(_mixed(triples, codes[more + 2]))

    def find(self, codes: Codes) -> tuple[Places, Places, Places]:
        """Every word wherever it stands, also inside others, in no order: which one, its start and its end."""
        if not self._longest:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        parts = list(self._found(codes))
        of, starts, ends = (
            np.concatenate([np.zeros(0, dtype=np.int64), *column]) for column in zip(*parts, strict=True)
        )
        return of, starts, ends

    def _found(self, codes: Codes) -> Iterator[tuple[Places, Places, Places]]:
        single = self._single.of(codes)
        yield *single, single[1] + 1
        places = self._beginnings(codes)
        nodes = self._table.of(_pairs(codes[places], codes[places + 1]))
        for depth in range(2, DEPTH + 1):
            known = nodes != NOWHERE
            places, nodes = places[known], nodes[known]
            if not len(places):
                return
            of, at = self._words.of(nodes)
            yield of, places[at], places[at] + depth
            if depth < DEPTH:
                going_on = self._has_more[nodes] & (places < len(codes) - depth)
                places, nodes = places[going_on], nodes[going_on]
                nodes = self._table.of(_pairs(nodes + NODES, codes[places + depth]))
        yield self._long_ones(codes, places[np.isin(nodes, self._long_ends)])

    def _beginnings(self, codes: Codes) -> Places:
        """Places where a word of several symbols may begin, in order."""
        if pays(codes.nbytes):
            from curation.word_kernels import find_beginnings

            return find_beginnings(codes, (FIRST, SECOND), self._begun.bits, self._pairs.bits, self._triples.bits)
        mixed = _mixed(codes[:-1], codes[1:])
        places = np.flatnonzero(self._begun.passes(mixed))
        mixed = mixed[places]
        third = codes[np.minimum(places + 2, len(codes) - 1)]
        return places[self._pairs.passes(mixed) | self._triples.passes(_mixed(mixed, third))]

    def _long_ones(self, codes: Codes, places: Places) -> tuple[Places, Places, Places]:
        """The words longer than DEPTH, all of which begin at some of the places, which are in order."""
        parts = [np.zeros((0, 3), dtype=np.int64)]
        groups = np.split(places, np.flatnonzero(np.diff(places) > self._longest) + 1) if len(places) else []
        for begin, end in ((int(group[0]), int(group[-1]) + 1) for group in groups):
            for stretch in range(begin, end, STRETCH):
                text = decoded(codes[stretch : stretch + STRETCH + self._longest])
                hits = self._automaton.find_matches_as_indexes(text, overlapping=True)
                found = np.array(hits, dtype=np.int64).reshape(-1, 3)
                parts.append(found[found[:, 1] < min(STRETCH, end - stretch)] + (0, stretch, stretch))
        of, starts, ends = np.concatenate(parts).T
        return self._long[of], starts, ends


class _Sieve:
    """Passes all of some numbers, and few others."""

    def __init__(self, numbers: Codes) -> None:
        known = np.unique(numbers)
        size = min(LARGEST_SIEVE, max(SMALLEST_SIEVE, 1 << (SIEVE_PER_NUMBER * len(known)).bit_length()))
        self._shift = np.uint32(32 - (size.bit_length() - 1))
        passes = np.zeros(size, dtype=bool)
        passes[known >> self._shift] = True
        self._bits = np.packbits(passes, bitorder="little")

    @property
    def bits(self) -> tuple[npt.NDArray[np.uint8], int]:
        """A bit for each number, by the first bits of it, and how far it is shifted for that."""
        return self._bits, int(self._shift)

    def passes(self, numbers: Codes) -> npt.NDArray[np.bool_]:
        """For each number whether it may be one of them."""
        places = numbers >> self._shift
        found: npt.NDArray[np.bool_] = (self._bits[places >> np.uint32(3)] >> (places & np.uint32(7)) & 1) > 0
        return found


class _Lists:
    """The words that end at nodes, or that single symbols are."""

    def __init__(self, ends: npt.NDArray[np.integer], words: Places, size: int) -> None:
        """`ends`, below `size`: where each of the words ends."""
        order = np.argsort(ends, kind="stable")
        self._words = words[order]
        nodes, self._first, self._sizes = np.unique(ends[order], return_index=True, return_counts=True)
        self._known = np.zeros(size if len(ends) else 1, dtype=bool)
        self._known[nodes] = True
        self._which = np.cumsum(self._known, dtype=np.int32) - 1
        self._one_each = len(nodes) == len(words)

    def of(self, nodes: npt.NDArray[np.integer]) -> tuple[Places, Places]:
        """Words that end at some of the nodes, and which index each of these has."""
        if not len(self._words):
            return self._words, self._words
        at = np.flatnonzero(self._known[nodes])
        which = self._which[nodes[at]]
        if self._one_each:
            return self._words[which], at
        sizes = self._sizes[which]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self._words[np.repeat(self._first[which], sizes) + within], np.repeat(at, sizes)


class _Table:
    """Numbers of keys, in a table of open addressing."""

    def __init__(self, keys: Keys) -> None:
        """The number of a key, each of which is given once, is its index."""
        size = 1 << (TABLE_PER_KEY * len(keys)).bit_length()
        self._shift, self._last = np.uint64(64 - (size.bit_length() - 1)), size - 1
        self._keys, self._numbers = np.full(size, FREE), np.full(size, NOWHERE, dtype=np.int32)
        left, slots = np.arange(len(keys)), self._slots(keys)
        while len(left):
            free = self._keys[slots] == FREE
            self._keys[slots[free]] = keys[left[free]]  # of two for one place, the last stays
            placed = self._keys[slots] == keys[left]
            self._numbers[slots[placed]] = left[placed]
            left, slots = left[~placed], (slots[~placed] + 1) & self._last

    def of(self, keys: Keys) -> npt.NDArray[np.int32]:
        """The numbers of keys; NOWHERE for those that are not in the table."""
        slots = self._slots(keys)
        there = self._keys[slots]
        numbers = np.where(there == keys, self._numbers[slots], np.int32(NOWHERE))
        left = np.flatnonzero((there != keys) & (there != FREE))
        while len(left):
            slots[left] = (slots[left] + 1) & self._last
            there = self._keys[slots[left]]
            same = there == keys[left]
            numbers[left[same]] = self._numbers[slots[left[same]]]
            left = left[~same & (there != FREE)]
        return numbers

    def _slots(self, keys: Keys) -> Places:
        return ((keys * np.uint64(0x9E3779B97F4A7C15)) >> self._shift).astype(np.int64)


def _nodes(codes: Codes, begins: Places, lengths: Places) -> tuple[_Table, Places, npt.NDArray[np.bool_]]:
    """The nodes: their table, the node where each word (or its first DEPTH symbols) ends, and which go on."""
    ends = np.full(len(lengths), NOWHERE, dtype=np.int64)
    keys: list[Keys] = []
    num_nodes, parents = 0, [np.zeros(0, dtype=np.int64)]
    for depth in range(2, DEPTH + 1):
        longer = np.flatnonzero(lengths >= depth)
        before = codes[begins[longer]] if depth == 2 else ends[longer] + NODES
        here, of = np.unique(_pairs(before, codes[begins[longer] + depth - 1]), return_inverse=True)
        if depth > 2:
            parents.append(ends[longer])
        ends[longer] = num_nodes + of
        num_nodes += len(here)
        keys.append(here)
    has_more = np.zeros(num_nodes, dtype=bool)
    has_more[np.concatenate(parents)] = True
    return _Table(np.concatenate(keys)), ends, has_more


def _pairs(first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> Keys:
    return (first.astype(np.uint64) << np.uint64(32)) + second.astype(np.uint64)


def _mixed(first: Codes, second: Codes) -> Codes:
    """A number of two symbols, or of such a number and a symbol; its first bits are the best."""
    return first * np.uint32(FIRST) + second * np.uint32(SECOND)
