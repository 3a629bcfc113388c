"""Labelled texts made fit for learning: distinct, with one label each, and a part of them held out.

The held-out part is stratified by label and holds no text of the training part: texts are told apart as the model sees
them, folded. A text with several labels has the one it was given most often; a draw leaves it out.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from curation.artefacts import Progress
from curation.errors import CurationError
from curation.ngrams import prepare

BATCH_TEXTS = 10_000
MIN_PER_LABEL = 10
MAX_LABELS = 1_000
MAX_RECORDS = 2_000_000
MAX_LABEL_CHARS = 200


@dataclass
class Labelled:
    """Distinct labelled texts, and what was counted on the way."""

    texts: dict[bytes, str] = field(default_factory=dict)
    """By hash of the prepared text, which orders them: the order of the file does not matter."""
    labels: dict[bytes, Counter[str]] = field(default_factory=dict)
    records: int = 0
    empty: int = 0


def read_labelled(records: Iterable[tuple[str, str]], tell: Progress) -> Labelled:
    """Reads (text, label) records.

    Raises:
        CurationError: too many of them, or a label too long to be one.
    """
    labelled = Labelled()
    source = iter(records)
    while batch := list(islice(source, BATCH_TEXTS)):
        for prepared, (_, label) in zip(prepare([text for text, _ in batch]), batch, strict=True):
            _add(labelled, prepared, label)
        tell("read", labelled.records, 0)
    return labelled


def _add(labelled: Labelled, prepared: str, label: str) -> None:
    labelled.records += 1
    if labelled.records > MAX_RECORDS:
        raise CurationError(f"more than {MAX_RECORDS:,} labelled texts: take a sample of them")
    if len(label) > MAX_LABEL_CHARS:
        raise CurationError(f"record {labelled.records} has a label of more than {MAX_LABEL_CHARS} characters")
    if not prepared:
        labelled.empty += 1
        return
    key = hashlib.blake2b(prepared.encode(), digest_size=16).digest()
    labelled.texts.setdefault(key, prepared)
    labelled.labels.setdefault(key, Counter())[label] += 1


def choose_labels(labelled: Labelled) -> tuple[dict[bytes, str], dict[str, int]]:
    """The label of each distinct text, in the order of the texts' hashes, and counts.

    Raises:
        CurationError: too few labels, too many, or too few texts of one.
    """
    chosen: dict[bytes, str] = {}
    conflicts = left_out = 0
    for key in sorted(labelled.texts):
        ranked = labelled.labels[key].most_common()
        conflicts += len(ranked) > 1
        if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
            left_out += 1
            continue
        chosen[key] = ranked[0][0]
    sizes = Counter(chosen.values())
    if len(sizes) < 2:
        raise CurationError(f"a classifier needs texts of at least two labels, not of {len(sizes)}")
    if len(sizes) > MAX_LABELS:
        raise CurationError(f"at most {MAX_LABELS:,} labels, not {len(sizes):,}: is `label` the right column?")
    label, size = min(sizes.items(), key=lambda item: (item[1], item[0]))
    if size < MIN_PER_LABEL:
        raise CurationError(f"label {label!r} has {size} distinct texts: each label needs at least {MIN_PER_LABEL}")
    counts = {
        "records": labelled.records,
        "empty": labelled.empty,
        "duplicates": labelled.records - labelled.empty - len(labelled.texts),
        "conflicts": conflicts,
        "left_out_for_conflict": left_out,
    }
    return chosen, counts


def split_off(chosen: dict[bytes, str], holdout: float) -> tuple[list[bytes], list[bytes]]:
    """Training and held-out texts: of each label the share, by the order of hashes, at least one."""
    by_label: dict[str, list[bytes]] = {}
    for key, label in chosen.items():
        by_label.setdefault(label, []).append(key)
    held = {key for keys in by_label.values() for key in keys[: max(1, round(holdout * len(keys)))]}
    return [key for key in chosen if key not in held], sorted(held)
