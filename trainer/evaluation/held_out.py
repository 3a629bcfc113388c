"""The held-out conversations of a run: what their samples are called, and which of their replies are generated.

Choices follow from ids, what was said and the seed, so that runs with other lengths, tokenizers or recipes generate the
same replies.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import Data
from trainer.data.vectors import Vectors, read_rows, read_samples
from trainer.data.version import DatasetVersion
from trainer.dialogues import Message, target_turns
from trainer.evaluation.text_scores import TOKENIZERS, language_of

MAX_REPLIES_A_CONVERSATION = 2
COUNTED_REPLIES = 50_000
"""Of the training data, to find the most frequent one."""


@dataclass(frozen=True)
class Reply:
    """A reply that was said, and what was said before it."""

    conversation_id: str
    turn: int
    """Its place among the messages of its row of the version."""
    history: Sequence[Message]
    text: str


def sample_names(vectors: Vectors) -> dict[tuple[str, int], list[tuple[str, str]]]:
    """Of each held-out packed row, by segment and place: its samples' rows in the version and their conversations."""
    return {
        (segment.path, place): names
        for segment in vectors.validation
        for place, names in enumerate(read_samples(vectors, segment))
    }


def choose_replies(
    version: DatasetVersion, names: Iterable[Sequence[tuple[str, str]]], data: Data, *, count: int, seed: int
) -> list[Reply]:
    """Replies of the held-out conversations: one of as many conversations as there are, then a second one of some.

    `names` are those of `sample_names`, `version` is the one they are of. A reply whose end was cut is none to compare
    with.
    """
    conversation_of = {row: conversation for of_row in names for row, conversation in of_row}
    order = sorted(set(conversation_of.values()), key=lambda name: _lot(seed, name))[:count]
    chosen = set(order)
    replies: defaultdict[str, list[Reply]] = defaultdict(list)
    for row in version.find({name for name, conversation in conversation_of.items() if conversation in chosen}):
        turns = target_turns(row.messages)
        for turn in turns[-1:] if data.targets == "last" else turns:
            if not row.messages[turn].get("cut"):
                reply = Reply(row.conversation_id, turn, row.messages[:turn], row.messages[turn]["content"])
                replies[row.conversation_id].append(reply)
    for found in replies.values():
        found.sort(key=lambda reply: _lot(seed, reply.conversation_id, reply.text))
    rounds = [
        replies[name][number]
        for number in range(MAX_REPLIES_A_CONVERSATION)
        for name in order
        if number < len(replies[name])
    ]
    return rounds[:count]


def most_frequent_replies(vectors: Vectors, chat: ChatTokenizer) -> dict[str, str]:
    """By language, what a model would say that knows one answer only: the most frequent reply of the training data.

    Looks at the first 50,000 replies: each that is held costs a few hundred bytes.
    """
    replies = (
        row.ids[start:end].tobytes()
        for segment in vectors.train
        for row in read_rows(vectors, segment)
        for start, end in np.flatnonzero(np.diff(row.is_target, prepend=False, append=False)).reshape(-1, 2)
    )
    counts = Counter(islice(replies, COUNTED_REPLIES))
    found: dict[str, str] = {}
    for ids, _ in counts.most_common():
        text = chat.decode(np.frombuffer(ids, np.int32).tolist())
        found.setdefault(language_of(text), text)
        if len(found) == len(TOKENIZERS):
            break
    return found


def _lot(*parts: object) -> bytes:
    """A place in an order by chance that follows from what is ordered."""
    return hashlib.sha256(":".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
