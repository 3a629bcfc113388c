"""How a dialogue becomes training samples: windows, left truncation, loss masks.

The one implementation for curation (`truncate_history`), training and chat, so that they never disagree. A sample is a
reply and the history before it: everything before the reply's first content token is its source and counts against
`max_source_length`; the reply with its end-of-turn token is its target. A dialogue that fits is one window with loss on
all its replies; a longer one becomes the fewest windows in which each reply sees all its history or at least
`min_history_ratio` of its budget. History is whole turns, newest first, after the system message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Literal, NotRequired, TypedDict

from trainer.chat_tokenizer import PACKAGED, ChatTokenizer, DialogueError, load_chat_tokenizer

__all__ = [
    "DIALOGUES_VERSION",
    "PACKAGED",
    "ChatTokenizer",
    "Cut",
    "DialogueError",
    "EncodedRow",
    "Lengths",
    "Message",
    "Window",
    "encode_window",
    "load_chat_tokenizer",
    "make_windows",
    "target_turns",
    "truncate_prompt",
]

DIALOGUES_VERSION = 2
"""Raised with every change of the rows that dialogues become: a part of the key of whatever is kept of them."""


class Message(TypedDict):
    """A turn; a `weight` of 0 makes an assistant's turn context that is not learned."""

    role: str
    content: str
    weight: NotRequired[int | None]


@dataclass(frozen=True)
class Lengths:
    """Budgets in tokens."""

    max_source_length: int
    max_target_length: int
    min_history_ratio: float = 0.5
    """Share of the source budget that a reply's history reaches in every window, where there is as much history."""


@dataclass(frozen=True)
class Cut:
    """Code points `start` to `end` of an input turn's content that a window leaves out."""

    turn: int
    start: int
    end: int


@dataclass(frozen=True)
class Window:
    """A part of a dialogue that is trained on as one row."""

    messages: tuple[Message, ...]
    """`weight` 0 on each assistant turn that is not learned here; contents possibly cut."""
    turns: tuple[int, ...]
    """Index of each message in the dialogue."""
    cuts: tuple[Cut, ...] = ()


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
        DialogueError: the chat template refuses the dialogue's roles.
    """
    replies = target_turns(messages)
    if targets == "last":
        replies = replies[-1:]
    dialogue = _Dialogue(chat, messages, lengths)
    if not replies or dialogue.surely_fits():
        return [dialogue.window(0, len(messages), replies)]
    if dialogue.source_tokens(0, replies[-1]) <= lengths.max_source_length:
        # With one reply to learn, what follows it is of no use to anyone but the reader of the whole dialogue.
        return [dialogue.window(0, len(messages), replies)]
    if mode == "newest" or targets == "last":
        last = replies[-1]
        return [dialogue.window(dialogue.start_for(last, ratio=1.0), last + 1, replies)]
    windows = []
    while replies:
        start = dialogue.start_for(replies[0], ratio=lengths.min_history_ratio)
        here = [reply for reply in replies if dialogue.source_tokens(start, reply) <= lengths.max_source_length]
        here = here or replies[:1]
        windows.append(dialogue.window(start, here[-1] + 1, here))
        replies = replies[len(here) :]
    return windows


def encode_window(chat: ChatTokenizer, messages: Sequence[Message], max_target_length: int) -> EncodedRow:
    """Tokens and loss mask of a window's messages, up to the last learned token.

    A reply of `max_target_length` tokens or more was cut: its end-of-turn token is not learned.
    """
    layout = chat.layout(tuple(message["role"] for message in messages))
    replies = set(target_turns(messages))
    ids = list(layout.pieces[0])
    is_target = [False] * len(ids)
    length = 0
    for index, message in enumerate(messages):
        content, after = chat.encode_content(message["content"]), layout.pieces[index + 1]
        learned = index in replies
        num_end_tokens = layout.num_end_tokens[index] if learned and len(content) < max_target_length else 0
        ids += content
        is_target += [learned] * len(content)
        ids += after
        is_target += [True] * num_end_tokens + [False] * (len(after) - num_end_tokens)
        if learned:
            length = len(ids) - len(after) + num_end_tokens
    return EncodedRow(ids[:length], is_target[:length])


def truncate_prompt(chat: ChatTokenizer, messages: Sequence[Message], max_source_length: int) -> list[int]:
    """Token ids of a chat's prompt: the same template and left truncation as in training."""
    turns: list[Message] = [*messages, {"role": "assistant", "content": ""}]
    dialogue = _Dialogue(chat, turns, Lengths(max_source_length, 1))
    start = dialogue.start_for(len(turns) - 1, ratio=1.0)
    window = dialogue.window(start, len(turns), [len(turns) - 1])
    return chat.generation_prompt([(message["role"], message["content"]) for message in window.messages[:-1]])


class _Dialogue:
    """Token counts of one dialogue's turns, taken when they are needed, and the windows cut from it."""

    def __init__(self, chat: ChatTokenizer, messages: Sequence[Message], lengths: Lengths) -> None:
        self._chat = chat
        self._messages = messages
        self._lengths = lengths
        self._roles = tuple(message["role"] for message in messages)
        self._num_system = next((i for i, role in enumerate(self._roles) if role != "system"), len(self._roles))
        self._counts: list[int | None] = [None] * len(messages)

    def surely_fits(self) -> bool:
        """Whether everything fits by its bytes alone, so that nothing needs to be tokenised."""
        if not self._chat.one_token_a_byte_at_most:
            return False
        sizes = [len(message["content"].encode("utf-8", "surrogatepass")) for message in self._messages]
        longest_reply = max((s for s, role in zip(sizes, self._roles, strict=True) if role == "assistant"), default=0)
        if longest_reply >= self._lengths.max_target_length or sum(sizes) > self._lengths.max_source_length:
            return False
        template = sum(map(len, self._chat.layout(self._roles).pieces))
        return sum(sizes) + template <= self._lengths.max_source_length

    def source_tokens(self, start: int, reply: int) -> int:
        """Tokens before the reply's first content token when the history starts at turn `start`."""
        start = max(start, self._num_system)
        opening = self._chat.layout((*self._roles[: self._num_system], self._roles[start])).pieces[:-1]
        system = sum(map(self._count, range(self._num_system)))
        return sum(map(len, opening)) + system + self._until[reply] - self._until[start]

    @cached_property
    def _until(self) -> list[int]:
        """Tokens before content i, less the opening, for each turn: differences are lengths of histories."""
        pieces = self._chat.layout(self._roles).pieces
        sizes = (self._count(turn) + len(pieces[turn + 1]) for turn in range(len(self._roles) - 1))
        return list(accumulate(sizes, initial=0))

    def start_for(self, reply: int, *, ratio: float) -> int:
        """Where the history of a reply starts: a user turn where there is one.

        The latest start that reaches `ratio` of the budget, so that many later replies fit as well; the earliest that
        fits when none does. A start whose only turn is too long is cut by `window`.
        """
        budget = self._lengths.max_source_length
        everything = self._num_system
        if self.source_tokens(everything, reply) <= budget:
            return 0
        candidates = [i for i in range(everything + 1, reply) if self._roles[i] == "user"]
        fitting = [i for i in candidates if self.source_tokens(i, reply) <= budget]
        if not fitting:
            return self._start_within_budget(candidates, reply)
        rich = [i for i in fitting if self.source_tokens(i, reply) >= ratio * budget]
        return rich[-1] if rich else fitting[0]

    def window(self, start: int, end: int, replies: Sequence[int]) -> Window:
        """Turns `start` to `end`, the system message before them, with loss on `replies` only."""
        turns = self._turns(start, end)
        learned = set(replies)
        contents = {turn: self._messages[turn]["content"] for turn in turns}
        cuts: list[Cut] = []
        for turn in turns:
            if turn in learned and self._count_exceeds(turn, self._lengths.max_target_length):
                kept = self._chat.keep_left(contents[turn], self._lengths.max_target_length)
                cuts.append(Cut(turn, kept, len(contents[turn])))
                contents[turn] = contents[turn][:kept]
        if replies and not self.surely_fits():
            cuts += self._cut_oversized(turns, replies[0], contents)
        return Window(tuple(self._message(turn, contents[turn], turn in learned) for turn in turns), turns, tuple(cuts))

    def _turns(self, start: int, end: int) -> tuple[int, ...]:
        return (*range(min(self._num_system, end)), *range(max(start, self._num_system), end))

    def _message(self, turn: int, content: str, learned: bool) -> Message:
        message = self._messages[turn]
        weight = message.get("weight")
        if message["role"] == "assistant" and not learned:
            weight = 0
        return {"role": message["role"], "content": content} | ({} if weight is None else {"weight": weight})  # type: ignore[return-value]

    def _count(self, turn: int) -> int:
        known = self._counts[turn]
        if known is None:
            known = self._counts[turn] = self._chat.count(self._messages[turn]["content"])
        return known

    def _count_exceeds(self, turn: int, limit: int) -> bool:
        content = self._messages[turn]["content"]
        if self._chat.one_token_a_byte_at_most and 4 * len(content) <= limit:
            return False
        return self._count(turn) > limit

    def _start_within_budget(self, users: list[int], reply: int) -> int:
        """No history that starts with a user turn fits: the newest user turn is cut, if what follows it leaves room."""
        newest = users[-1] if users else reply - 1
        for start in range(newest, reply):
            if start + 1 >= reply or self.source_tokens(start + 1, reply) < self._lengths.max_source_length:
                return start
        return reply - 1

    def _cut_oversized(self, turns: tuple[int, ...], reply: int, contents: dict[int, str]) -> list[Cut]:
        """Cuts the oldest turn of the history on its left, and the system message too if that is not enough."""
        history = [turn for turn in turns if self._num_system <= turn < reply]
        start = history[0] if history else reply
        excess = self.source_tokens(start, reply) - self._lengths.max_source_length
        cuts = []
        for turn in [*history[:1], *(turn for turn in turns if turn < self._num_system)]:
            if excess > 0:
                kept_tokens = max(0 if turn < self._num_system else 1, self._count(turn) - excess)
                offset = self._chat.keep_right(contents[turn], kept_tokens)
                excess -= self._count(turn) - self._chat.count(contents[turn][offset:])
                cuts.append(Cut(turn, 0, offset))
                contents[turn] = contents[turn][offset:]
        return cuts
