"""How a dialogue becomes training samples: windows, left truncation, loss masks.

The one implementation for curation (`truncate_history`), training and chat, so that they never disagree. A sample is a
reply and the history before it: everything before the reply's first content token is its source and counts against
`max_source_length`; the reply with its end-of-turn token is its target. A dialogue that fits is one window with loss on
all its replies; a longer one becomes the fewest windows in which each reply sees all its history or at least
`min_history_ratio` of its budget (`trainer.windows`).

A template that changes earlier turns once the dialogue goes on, or looks into what they say, makes each reply a window
of its own, rendered as chat would render it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainer.chat_template import DialogueError
from trainer.chat_tokenizer import PACKAGED, ChatTokenizer, load_chat_tokenizer
from trainer.windows import Cut, Dialogue, Lengths, Message, NoRoomError, Window, pairs_of

__all__ = [
    "DIALOGUES_VERSION",
    "PACKAGED",
    "ChatTokenizer",
    "Cut",
    "DialogueError",
    "EncodedRow",
    "Lengths",
    "Message",
    "NoRoomError",
    "Window",
    "encode_prompt",
    "encode_window",
    "load_chat_tokenizer",
    "make_windows",
    "target_turns",
    "truncate_prompt",
]

DIALOGUES_VERSION = 6
"""Raised with every change of the rows that dialogues become: a part of the key of whatever is kept of them."""
_ANSWER = "a"
"""Stands for a reply that is not there yet; templates drop empty ones."""


@dataclass(frozen=True)
class EncodedRow:
    """A window's token ids and, for each, whether it is learned."""

    ids: list[int] = field(default_factory=list)
    is_target: list[bool] = field(default_factory=list)


def target_turns(messages: Sequence[Message]) -> list[int]:
    """Indices of the replies: assistant turns after the first user turn whose weight is not 0."""
    asked = False
    targets = []
    for index, message in enumerate(messages):
        if message["role"] == "user":
            asked = True
        elif message["role"] == "assistant" and asked and message.get("weight") != 0:
            targets.append(index)
    return targets


def make_windows(
    chat: ChatTokenizer,
    messages: Sequence[Message],
    lengths: Lengths,
    *,
    mode: Literal["windows", "newest"] = "windows",
    targets: Literal["all", "last"] = "all",
) -> list[Window]:
    """Cuts a dialogue into windows; each reply is learned in exactly one of them.

    `mode="newest"` makes one window of what the last reply needs. `targets="last"` learns the last reply only. A
    dialogue without replies is one window, unchanged.

    Raises:
        DialogueError: the chat template refuses the dialogue.
    """
    replies = target_turns(messages)
    if targets == "last":
        replies = replies[-1:]
    dialogue = Dialogue(chat, messages, lengths)
    if not replies or (dialogue.is_regular and dialogue.surely_fits()):
        return [dialogue.window(0, len(messages), replies)]
    if dialogue.is_regular and dialogue.source_tokens(0, replies[-1]) <= lengths.max_source_length:
        # With one reply to learn, what follows it is of no use to anyone but the reader of the whole dialogue.
        return [dialogue.window(0, len(messages), replies)]
    if mode == "newest" or targets == "last":
        last = replies[-1]
        start = dialogue.earliest_start(last)
        # A history that has to be cut is cut for the last reply: earlier ones would see more than their budget.
        fits = dialogue.is_regular and dialogue.source_tokens(start, last) <= lengths.max_source_length
        shown = [reply for reply in replies if reply >= start] if fits else [last]
        return [dialogue.window(start, last + 1, shown)]
    windows = []
    while replies:
        # The latest start holds the most replies, and no other first window holds more; then back to the earliest that
        # still holds them all, since history costs no window.
        here = dialogue.fitting(dialogue.latest_start(replies[0]), replies) if dialogue.is_regular else replies[:1]
        windows.append(dialogue.window(dialogue.earliest_start(here[-1]), here[-1] + 1, here))
        replies = replies[len(here) :]
    return windows


def encode_window(chat: ChatTokenizer, messages: Sequence[Message], max_target_length: int) -> EncodedRow:
    """Tokens and loss mask of a window's messages, up to the last learned token.

    The end-of-turn token is not learned of a reply that was cut, and where it would be beyond `max_target_length`.

    Raises:
        DialogueError: the chat template refuses the messages, or shows several learned replies in other surroundings
            than each alone; `make_windows` makes no such windows.
    """
    replies = target_turns(messages)
    if not replies:
        return EncodedRow()
    pairs = pairs_of(messages)
    if chat.chat_template.is_regular(pairs):
        encoded = chat.encode(chat.chat_template.spans(pairs))
    elif len(replies) > 1:
        raise DialogueError("the chat template changes what was said earlier: each reply needs a row of its own")
    else:
        encoded = chat.encode(chat.chat_template.follow(pairs[: replies[0] + 1]))
    is_target = [False] * len(encoded.ids)
    length = 0
    for reply in replies:
        start, stop, end = (places[reply] for places in (encoded.starts, encoded.stops, encoded.ends))
        is_whole = end - start <= max_target_length and not messages[reply].get("cut")
        length = end if is_whole else stop
        is_target[start:length] = [True] * (length - start)
    return EncodedRow(encoded.ids[:length], is_target[:length])


def encode_prompt(chat: ChatTokenizer, messages: Sequence[Message]) -> list[int]:
    """Token ids of a chat up to where the assistant's answer begins: the source that a reply has in training."""
    return _until_reply(chat, pairs_of(messages))


def truncate_prompt(chat: ChatTokenizer, messages: Sequence[Message], max_source_length: int) -> list[int]:
    """Token ids of a chat's prompt: the same template and left truncation as in training."""
    turns: list[Message] = [*messages, {"role": "assistant", "content": _ANSWER}]
    dialogue = Dialogue(chat, turns, Lengths(max_source_length, 1))
    start = dialogue.earliest_start(len(turns) - 1)
    window = dialogue.window(start, len(turns), [len(turns) - 1])
    return encode_prompt(chat, window.messages[:-1])


def _until_reply(chat: ChatTokenizer, pairs: list[tuple[str, str]]) -> list[int]:
    """Token ids before the content of a reply that follows."""
    template, whole = chat.chat_template, [*pairs, ("assistant", _ANSWER)]
    spans = template.spans(whole) if template.is_regular(whole) else template.follow(whole)
    encoded = chat.encode(spans)
    return encoded.ids[: encoded.starts[len(pairs)]]
