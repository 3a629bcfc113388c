"""The conversations that a run validates on, where no version is given for that: a share, held out by groups.

A user's conversations stand on one side, and so do conversations that are nearly the same. Groups are ordered by
chance, which depends on ids and the seed alone, and taken until the share is reached, counted over all that curation
was given. So runs with other lengths, tokenizers or recipes hold out the same, and what a run on the whole version
holds out, a run on a slice of it does not learn either.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from trainer.config import TrainConfig
from trainer.data.likeness import SketchBook, mixed
from trainer.data.pieces import name_hashes
from trainer.data.slices import Where
from trainer.data.version import DatasetVersion, group_of

MIN_HELD_OUT, MAX_HELD_OUT, MAX_HELD_OUT_SHARE = 20, 2_000, 0.2
MAX_EXCESS = 2
"""Where groups are large, as many times what is wanted may be held out; a larger group never is."""


def held_out_groups(
    version: DatasetVersion, config: TrainConfig, groups: Sequence[np.ndarray], sketches: SketchBook
) -> np.ndarray:
    """Hashes of the groups held out, sorted; `groups` and `sketches` are those of the version's samples.

    Raises:
        ConfigError: a segment of the version cannot be read.
    """
    share, where = config.data.validation_share, config.data.where
    if share == 0:
        return np.empty(0, np.uint64)
    names, sizes = _groups(version)
    roots = _joined(names, groups, sketches)
    wanted, most = _bounds(int(sizes.sum()), share)
    order, of_component = _components(names, sizes, roots, most, config.validation_seed)
    chosen = _take(order, of_component, sizes, wanted, most)
    if where:
        of_slice, own_sizes = _groups(version, where)
        sizes = np.zeros_like(sizes)
        sizes[np.searchsorted(names, of_slice)] = own_sizes
        wanted, most = _bounds(int(sizes.sum()), share)
        chosen |= _take(order, of_component, sizes, wanted, most, already=chosen)
    return names[chosen]


def _bounds(total: int, share: float) -> tuple[int, int]:
    """How many conversations to hold out: at least, as long as groups allow it, and at most."""
    limit = int(MAX_HELD_OUT_SHARE * total)
    wanted = min(max(MIN_HELD_OUT, round(share * total)), MAX_HELD_OUT, limit)
    return wanted, min(MAX_EXCESS * wanted, MAX_HELD_OUT, limit)


def _groups(version: DatasetVersion, where: Where = ()) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the groups, sorted, and how many conversations each has; of the whole version those dropped too."""
    found = [np.empty(0, np.uint64)]
    for conversations, groups in version.names(where):
        hashes = name_hashes(groups)
        firsts = [index for index, name in enumerate(conversations) if index == 0 or name != conversations[index - 1]]
        found.append(hashes[firsts])  # windows of one conversation stand together
    if not where:
        found += [name_hashes([group_of(name, None) for name in names]) for names in version.dropped_names()]
    return np.unique(np.concatenate(found), return_counts=True)


def _joined(names: np.ndarray, groups: Iterable[np.ndarray], sketches: SketchBook) -> np.ndarray:
    """Of each group, the first of those that are joined to it by conversations that are alike."""
    group_of_sample = np.searchsorted(names, np.concatenate([np.empty(0, np.uint64), *groups]))
    roots = np.arange(len(names))
    for one, other in sketches.pairs_alike():
        pairs = np.column_stack([roots[group_of_sample[one]], roots[group_of_sample[other]]])
        for pair in np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).tolist():
            first, last = sorted(_root(roots, group) for group in pair)
            roots[last] = first
        while (roots != (further := roots[roots])).any():
            roots = further
    return roots


def _root(roots: np.ndarray, group: int) -> int:
    while roots[group] != group:
        group = int(roots[group])
    return group


def _components(
    names: np.ndarray, sizes: np.ndarray, roots: np.ndarray, most: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first groups of what stays together, in their order by chance, and of each group its first one.

    Where more are alike than could be held out, they are canned dialogues, no copies, and are not kept together.
    """
    size_of_root = np.bincount(roots, sizes, len(names))
    roots = np.where(size_of_root[roots] > most, np.arange(len(names)), roots)
    firsts = np.unique(roots)
    lots = mixed(names[firsts] ^ mixed(np.array([seed + 1], np.uint64)))
    return firsts[np.argsort(lots, kind="stable")], roots


def _take(
    order: np.ndarray, roots: np.ndarray, sizes: np.ndarray, wanted: int, most: int, already: np.ndarray | None = None
) -> np.ndarray:
    """Which groups are chosen: one component after the other, until as many conversations as wanted are reached."""
    size_of_root = np.bincount(roots, sizes, len(roots)).astype(np.int64)
    is_chosen = np.zeros(len(roots), np.bool_)
    taken = 0 if already is None else int(sizes[already].sum())
    for first in order.tolist():
        if taken >= wanted:
            break
        size = int(size_of_root[first])
        if 0 < size <= most - taken and not (already is not None and already[first]):
            is_chosen[first] = True
            taken += size
    chosen: np.ndarray = is_chosen[roots]
    return chosen
