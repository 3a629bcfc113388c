"""The smoother: what is left out of spoken text, and written otherwise, when it is written down; learned from pairs.

A network gives each character the odds of being left out. It decides together with the rules of `smooth_disfluency`:

- In a text of the kind that it was taught with (`smoother_likeness`) stretches of characters go as the network's odds
  and the rules' votes together say.
- In a text of another kind in which the rules find a slip, a character goes where odds and vote together say so: where
  the network is sure it overrules them, and where it is not they decide.
- In all others only what looks like a slip may go: an empty word, or the beginning of what is said right after it.
  Where such a text asks or answers, the network must be all but certain, since in dialogues most turns are fluent.
- In texts of its kind it also writes words, and marks at the end, as the pairs always do (`smoother_spelling`).
- What is doubled on purpose (天天, 看看), names and numbers go only where the rules say so.

An artefact is a folder of arrays and `smoother.json`; its digest is over all, without times or places.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from curation.artefacts import Kind
from curation.draft import Edit
from curation.smoother_likeness import strange_marks
from curation.smoother_spelling import NOTHING, Spelling

if TYPE_CHECKING:
    from curation.smoother_fitting import Learned

KIND = Kind("smoother", "talkmill.smoother/1", preparation=2)
ARRAYS = ("characters", "table", "recurrent", "recurrent_bias", "out", "wide", "marks")
CHUNK_CHARS = 1 << 16
"""Texts are looked at in chunks of about so many characters, to keep memory bounded."""
FOR, AGAINST = 1.0, 0.5
"""What the rules' vote adds to the logit of a character that they leave out, and takes from that of others."""
OPENING = 0.5
"""What it takes, beside the characters' own odds, to leave out one more stretch."""
CERTAIN = {"tells": 0.0, "asks": 4.0}
"""Logit that one character must have before a text is touched in which the rules find nothing; more where it asks or
answers, since in dialogues most turns are fluent and do that."""

Logits = npt.NDArray[np.float32]
Votes = npt.NDArray[np.uint8]
"""What the rules say of each character of a text: 0 for those that stay, else the number of the code."""
CODES = ("filler", "repetition", "repair", "grammar")
"""From 1."""


@dataclass(frozen=True)
class SmootherRef:
    """Which smoother, without its weights: cheap to hold and to send to another process."""

    digest: str
    folder: Path | None = None
    """Where the artefact lies; None where it is only named."""

    @classmethod
    def at(cls, folder: Path) -> "SmootherRef":
        """The smoother in a folder.

        Raises:
            CurationError: the folder holds none.
        """
        return cls(KIND.read(folder)["digest"], folder.absolute())


class Smoother:
    """A trained smoother, opened."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], spelling: Spelling = NOTHING) -> None:
        self._arrays = arrays
        self.spelling = spelling
        self._strange = strange_marks(arrays["marks"])

    @classmethod
    def load(cls, folder: Path) -> "Smoother":
        """Opens an artefact.

        Raises:
            CurationError: it is not one, is damaged, or is of another version of Talkmill.
        """
        described, arrays = KIND.load(folder)
        return cls({name: arrays[f"{name}.npy"] for name in ARRAYS}, Spelling(**described["spelling"]))

    def logits(self, texts: Sequence[str], votes: Sequence[Votes]) -> list[Logits]:
        """Of each character of each text the logit of leaving it out, given what the rules say of it; the same whatever
        else is asked.
        """
        found: list[Logits] = []
        first = num_chars = 0
        for index, text in enumerate(texts):
            num_chars += len(text)
            if num_chars >= CHUNK_CHARS or index == len(texts) - 1:
                found += self._of_chunk(texts[first : index + 1], votes[first : index + 1])
                first, num_chars = index + 1, 0
        return found

    def was_taught_such(self, text: str) -> bool:
        """Whether a text bears no mark that is strange to the texts it was taught with."""
        return self._strange.search(text) is None

    def _of_chunk(self, texts: Sequence[str], votes: Sequence[Votes]) -> list[Logits]:
        from curation.smoother_network import run, table_rows
        from curation.smoother_reading import read

        seen, arrays = read(texts), self._arrays
        logits = run(
            arrays["table"], arrays["recurrent"], arrays["recurrent_bias"], arrays["out"], arrays["wide"],
            table_rows(seen, arrays["characters"], np.concatenate(votes)), seen.again, seen.wide, seen.begins,
        )  # fmt: skip
        return np.split(logits, seen.begins[1:-1])


def decide(
    logits: Logits, voted: npt.NDArray[np.bool_], held: npt.NDArray[np.bool_], *, certain: float | None
) -> npt.NDArray[np.bool_]:
    """Which characters of a text of another kind than was taught go.

    `voted`: those that the rules leave out; `held`: those that stay unless rules leave them out; `certain`: the logit
    that one character must have in a text in which rules find no slip, else None.
    """
    alone = np.where(held & ~voted, np.float32(-np.inf), logits)
    if certain is not None and alone.max(initial=-np.inf) < certain:
        return voted
    together: npt.NDArray[np.bool_] = alone > np.where(voted, np.float32(-FOR), np.float32(AGAINST))
    return together


def decide_freely(logits: Logits, voted: npt.NDArray[np.bool_], held: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which characters of a text go, so that their odds, less OPENING for each stretch, add up to most.

    `held`: those that stay unless rules leave them out.
    """
    gains = np.where(held & ~voted, np.float32(-1e6), logits + np.float32(FOR) * voted)
    stays, goes = 0.0, -np.inf
    came = np.zeros((len(gains), 2), dtype=bool)
    for at, gain in enumerate(gains.tolist()):
        came[at] = goes > stays, goes >= stays - OPENING
        stays, goes = max(stays, goes), max(stays - OPENING, goes) + gain
    gone = np.zeros(len(gains), dtype=bool)
    state = goes > stays
    for at in range(len(gains) - 1, -1, -1):
        gone[at] = state
        state = came[at, int(state)]
    return gone


def votes_of(text: str, ruled: Sequence[Edit]) -> Votes:
    """What edits of rules say of the characters of a text; those of what is replaced say nothing."""
    votes = np.zeros(len(text), dtype=np.uint8)
    for start, end, new, code in ruled:
        if not new:
            votes[start:end] = 1 + CODES.index(code)
    return votes


def runs(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def arrays_of(learned: "Learned", marks: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    """A learned network in the form that is asked: its table times the input weights, with the biases.

    `marks`: what the texts that it was taught with bear.
    """
    from curation.smoother_reading import SHAPES

    network = learned.parameters
    table = np.concatenate([network.table @ network.into[way] for way in range(2)], axis=1)
    first = 1 + len(learned.characters)
    table[first : first + SHAPES] += np.concatenate(list(network.bias))  # each character has one shape
    return {
        "characters": learned.characters,
        "table": np.ascontiguousarray(table),
        "recurrent": network.recurrent,
        "recurrent_bias": network.recurrent_bias,
        "out": network.out,
        "wide": learned.wide,
        "marks": marks,
    }


@lru_cache(maxsize=4)
def _opened(digest: str, folder: Path) -> Smoother:
    return Smoother.load(folder)


def open_smoother(ref: SmootherRef) -> Smoother:
    """The smoother itself; a few stay open in a process."""
    assert ref.folder is not None, "only named, not at hand"
    return _opened(ref.digest, ref.folder)
