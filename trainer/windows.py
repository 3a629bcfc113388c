"""Windows of one dialogue: which turns a reply's budget holds, and what of them is cut.

History is whole turns, newest first, after the system message. What is too long even so is cut on its left, a reply on
its right.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NotRequired, TypedDict

from trainer.chat_template import DialogueError
from trainer.chat_tokenizer import ChatTokenizer, Encoded

MOST_GAP_BYTES = 8
"""More white space than templates put between a generation prompt and a reply."""
SURE_TOKENS_A_TURN = 4
"""More than tokens counted turn by turn can differ from those of the whole."""


class NoRoomError(DialogueError):
    """A dialogue whose source exceeds its budget by the template's own text alone."""


class Message(TypedDict):
    """A turn; a `weight` of 0 makes an assistant's turn context that is not learned."""

    role: str
    content: str
    weight: NotRequired[int | None]
    cut: NotRequired[bool]
    """Whether the message's end is missing: a reply that breaks off does not teach to end there."""


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
    """`weight` 0 on each assistant turn that is not learned here; contents possibly cut, a reply's `cut` says so."""
    turns: tuple[int, ...]
    """Index of each message in the dialogue."""
    cuts: tuple[Cut, ...] = ()


class Dialogue:
    """One dialogue's turns, their tokens counted when they are needed, and the windows cut from it."""

    def __init__(self, chat: ChatTokenizer, messages: Sequence[Message], lengths: Lengths) -> None:
        self._chat = chat
        self._messages = messages
        self._lengths = lengths
        self._budget = lengths.max_source_length
        self._contents = [message["content"] for message in messages]
        self._roles = tuple(message["role"] for message in messages)
        self._num_system = next((i for i, role in enumerate(self._roles) if role != "system"), len(self._roles))

    @cached_property
    def is_regular(self) -> bool:
        """Whether the template shows every reply in the same surroundings whatever is said, and whatever follows."""
        return self._chat.chat_template.is_regular(pairs_of(self._messages))

    def surely_fits(self) -> bool:
        """Whether everything fits by its bytes alone, so that nothing needs to be tokenised."""
        if not self._chat.one_token_a_byte_at_most:
            return False
        sizes = [len(content.encode("utf-8", "surrogatepass")) for content in self._contents]
        longest_reply = max((s for s, role in zip(sizes, self._roles, strict=True) if role == "assistant"), default=0)
        if longest_reply >= self._lengths.max_target_length or sum(sizes) > self._lengths.max_source_length:
            return False
        template = self._chat.most_template_tokens(self._chat.layout(self._roles))
        return sum(sizes) + template <= self._lengths.max_source_length

    def source_tokens(self, start: int, reply: int) -> int:
        """Tokens before the reply's first content token when the history starts at turn `start`.

        Exact, but where counting turn by turn shows already that they are far too many.
        """
        turns = self._turns(start, reply + 1)
        counted = sum(self._until[turn + 1] - self._until[turn] for turn in turns[:-1])
        if counted > self._lengths.max_source_length + SURE_TOKENS_A_TURN * (len(turns) + 16):
            return counted
        return self._encode(turns, self._by_turn).starts[len(turns) - 1]

    def fitting(self, start: int, replies: Sequence[int]) -> list[int]:
        """The first of the replies, and those behind it whose source fits as well when the history starts there."""
        budget = self._lengths.max_source_length
        far = budget + SURE_TOKENS_A_TURN * 16
        end = next(
            (r for r in replies if self._until[r] - self._until[max(start, self._num_system)] > far), replies[-1]
        )
        turns = self._turns(start, end + 1)
        starts = self._encode(turns, self._by_turn).starts
        place = {turn: index for index, turn in enumerate(turns)}
        later = [reply for reply in replies[1:] if reply <= end and starts[place[reply]] <= budget]
        return [replies[0], *later]

    def earliest_start(self, reply: int) -> int:
        """Where the longest history of a reply that fits begins; with its newest user turn where none fits.

        A history begins at the first turn or at a user's.
        """
        starts = self._starts[: bisect_left(self._starts, reply)]
        first = bisect_left(starts, -self._budget, key=lambda start: -self.source_tokens(start, reply))
        if first < len(starts):
            return starts[first]
        return next((start for start in reversed(starts) if self._roles[start] == "user"), max(0, reply - 1))

    def latest_start(self, reply: int) -> int:
        """Where the shortest history of a reply begins that reaches `min_history_ratio` of the budget; the earliest
        start where none does."""
        earliest = self.earliest_start(reply)
        fitting = [start for start in self._starts if earliest <= start < reply]
        enough = self._lengths.min_history_ratio * self._budget
        poor = bisect_left(fitting, True, key=lambda start: self.source_tokens(start, reply) < enough)
        return fitting[poor - 1] if poor else earliest

    def window(self, start: int, end: int, replies: Sequence[int]) -> Window:
        """Turns `start` to `end`, the system message before them, with loss on `replies` only."""
        turns, learned = self._turns(start, end), set(replies)
        contents = {turn: self._contents[turn] for turn in turns}
        if replies and not (self.is_regular and self.surely_fits()):
            self._cut_replies(turns, replies, contents)
            turns = self._cut_source(turns, replies[0], contents)
        cuts = [cut for turn in turns if (cut := self._cut_of(turn, contents[turn], turn in learned)) is not None]
        return Window(tuple(self._message(turn, contents[turn], turn in learned) for turn in turns), turns, tuple(cuts))

    def _encode(self, turns: Sequence[int], contents: Mapping[int, str]) -> Encoded:
        """Tokens of some turns; of an irregular dialogue, as they are for the last of them."""
        pairs = [(self._roles[turn], contents[turn]) for turn in turns]
        template = self._chat.chat_template
        regular = self.is_regular and self._chat.layout(tuple(role for role, _ in pairs)).is_stable
        return self._chat.encode(template.spans(pairs) if regular else template.follow(pairs))

    @cached_property
    def _starts(self) -> list[int]:
        """Turns at which a history may begin."""
        return [turn for turn, role in enumerate(self._roles) if turn == self._num_system or role == "user"]

    @cached_property
    def _by_turn(self) -> dict[int, str]:
        return dict(enumerate(self._contents))

    @cached_property
    def _until(self) -> list[int]:
        """Tokens of the contents before turn i: what differs of whole windows is the template's own text."""
        return list(accumulate(map(self._chat.count, self._contents), initial=0))

    def _turns(self, start: int, end: int) -> tuple[int, ...]:
        return (*range(min(self._num_system, end)), *range(max(start, self._num_system), end))

    def _message(self, turn: int, content: str, learned: bool) -> Message:
        given = self._messages[turn]
        message: Message = {"role": given["role"], "content": content}
        weight = 0 if given["role"] == "assistant" and not learned else given.get("weight")
        if weight is not None:
            message["weight"] = weight
        if given.get("cut") or (learned and len(content) < len(given["content"])):
            message["cut"] = True
        return message

    def _cut_of(self, turn: int, kept: str, is_learned: bool) -> Cut | None:
        """What a window leaves out of a turn: the end of a reply that it learns, the beginning of anything else."""
        whole = self._contents[turn]
        if len(kept) == len(whole):
            return None
        return Cut(turn, len(kept), len(whole)) if is_learned else Cut(turn, 0, len(whole) - len(kept))

    def _cut_replies(self, turns: Sequence[int], replies: Sequence[int], contents: dict[int, str]) -> None:
        """Cuts replies on their right, until what is learned of each is within its budget."""
        budget = self._lengths.max_target_length
        longest = max(len(contents[reply].encode("utf-8", "surrogatepass")) for reply in replies)
        if self._chat.one_token_a_byte_at_most and longest + MOST_GAP_BYTES <= budget:
            return
        places = {turn: place for place, turn in enumerate(turns) if turn in replies}
        shown = turns[: places[replies[-1]] + 1]
        while True:
            encoded = self._encode(shown, contents)
            sizes = {reply: encoded.stops[place] - encoded.starts[place] for reply, place in places.items()}
            too_long = [reply for reply, size in sizes.items() if size > budget and contents[reply]]
            if not too_long:
                return
            for reply in too_long:
                most = self._chat.count(contents[reply]) - (sizes[reply] - budget)
                contents[reply] = contents[reply][: self._chat.keep_left(contents[reply], max(0, most))]

    def _cut_source(self, turns: tuple[int, ...], reply: int, contents: dict[int, str]) -> tuple[int, ...]:
        """Cuts the history on its left until it fits, then the system message; returns the turns that are left.

        Of the first turn, a user's, something stays; others may go as a whole.

        Raises:
            NoRoomError: the template's own text leaves no room.
        """
        before = turns[: turns.index(reply)]
        history = [turn for turn in before if turn >= self._num_system]
        system = [turn for turn in before if turn < self._num_system]
        for turn in [*history, *system]:
            least = 1 if turn in history[:1] else 0
            while (excess := self._excess(turns, reply, contents)) > 0 and (
                count := self._chat.count(contents[turn])
            ) > least:
                kept = self._chat.keep_right(contents[turn], max(least, count - excess))
                contents[turn] = contents[turn][kept:]
            if excess > 0 and turn in history[1:]:
                turns = tuple(other for other in turns if other != turn)
        if (excess := self._excess(turns, reply, contents)) > 0:
            raise NoRoomError(f"the template alone puts {self._budget + excess} tokens before a reply")
        return turns

    def _excess(self, turns: tuple[int, ...], reply: int, contents: Mapping[int, str]) -> int:
        """Tokens by which a reply's source exceeds its budget."""
        place = turns.index(reply)
        return self._encode(turns[: place + 1], contents).starts[place] - self._budget


def pairs_of(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Role and content of each message."""
    return [(message["role"], message["content"]) for message in messages]
