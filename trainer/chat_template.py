"""A chat template: what it puts around the messages of a dialogue, told apart from what the messages say.

A template is rendered with private marks in its messages, so its own text is known exactly: nothing is ever found by a
search for marker text. Most templates put the same text around any message (a `Layout` of the roles); those that look
into messages or change earlier turns, such as dropping their thinking, are followed message by message (`follow`).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import product
from typing import Any, Literal, NamedTuple, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

OPEN, CLOSE = "\U000f5a00", "\U000f5a01"
"""Private characters around what a message says; a message that holds them itself is refused."""
THINKING = re.compile(r"</?think(?:ing)?>")
"""Tags by which templates find a reply's thinking."""
PAD = "\n "
NUM_CHECKED = 8
"""Replies at each end of a dialogue whose surroundings are compared with those before the dialogue went on."""
_SENTINELS = re.compile(f"{OPEN}(\\d+){CLOSE}")
_OPENED_THINKING = re.compile(r"<think(?:ing)?>\s*\Z")
_MARKED = re.compile(f"{OPEN}(\\d+):(.*?){CLOSE}", re.DOTALL)


class DialogueError(ValueError):
    """A dialogue or a template that cannot be turned into training samples; the message says why."""


class Span(NamedTuple):
    """A stretch of a rendered dialogue."""

    text: str
    kind: Literal["template", "context", "reply", "end"]
    """context: what a message says; reply: what an assistant's says; end: the template's text that ends a reply."""
    turn: int = -1
    """Index of the message; -1 for the template's own text."""


@dataclass(frozen=True)
class Layout:
    """The template's own text around the contents of a sequence of roles."""

    pieces: tuple[str, ...]
    """`pieces[i]` stands before content i, `pieces[-1]` after the last one."""
    strips: tuple[tuple[bool, bool], ...]
    """Whether white space is taken off the left and the right of content i."""
    gaps: tuple[str, ...]
    """White space before reply i that a generation prompt leaves to the model."""
    ends: tuple[str, ...]
    """What ends reply i and is learned with it: the beginning of the piece behind it."""
    is_stable: bool
    """Whether replies' surroundings stay the same once the dialogue goes on."""

    def content(self, turn: int, text: str) -> str:
        """What the template makes of a message's text."""
        left, right = self.strips[turn]
        return text.strip() if left and right else text.lstrip() if left else text.rstrip() if right else text


class ChatTemplate:
    """A Jinja chat template with the tokenizer's special tokens."""

    def __init__(self, source: str, variables: dict[str, str], marks: re.Pattern[str]) -> None:
        """`marks` finds the tokens that structure the template's text; a reply ends with the first behind it.

        Raises:
            DialogueError: the template is not valid.
        """
        self.source = source
        self._variables = variables
        self._marks = marks
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise DialogueError(f"the chat template is not valid: {error}") from None
        self.layout = lru_cache(maxsize=4096)(self._layout)
        self._pieces = lru_cache(maxsize=4096)(self._render_pieces)
        # A dialogue is asked about twice: when it is cut into windows, and when its window is encoded.
        self._known_regular = lru_cache(maxsize=2)(self._is_regular)
        self._known_spans = lru_cache(maxsize=2)(self._spans)

    @property
    def default_system(self) -> str | None:
        """The system prompt that the template adds on its own when a dialogue has none."""
        try:
            with_system = self._pieces(("system", "user"))
        except DialogueError:  # a template without system messages
            return None
        alone = "".join(self._pieces(("user",))[:1])
        if len(with_system) != 3 or not with_system[0] or not alone.startswith(with_system[0]):
            return None
        head, middle = with_system[:2]
        return alone[len(head) : len(alone) - len(middle)] or None if alone.endswith(middle) else None

    def render(self, messages: Sequence[tuple[str, str]], *, generate: bool = False) -> str:
        """The text of (role, content) messages; `generate` opens the assistant's answer.

        Raises:
            DialogueError: the template refuses them.
        """
        shown = [{"role": role, "content": content} for role, content in messages]
        try:
            return self._template.render(
                messages=shown, tools=None, documents=None, add_generation_prompt=generate, **self._variables
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            roles = "/".join(role for role, _ in messages)
            raise DialogueError(f"the chat template refuses the turns {roles[:200]}: {error}") from None

    def is_regular(self, messages: Sequence[tuple[str, str]]) -> bool:
        """Whether these messages are rendered as the layout of their roles says.

        Raises:
            DialogueError: the template refuses them.
        """
        return self._known_regular(tuple(messages))

    def spans(self, messages: Sequence[tuple[str, str]]) -> Sequence[Span]:
        """Regular messages, as the layout of their roles has them."""
        return self._known_spans(tuple(messages))

    def follow(self, messages: Sequence[tuple[str, str]]) -> list[Span]:
        """Messages of any kind; the last one is the reply, whose thinking belongs to it where the template keeps it.

        Raises:
            DialogueError: the template changes messages in a way that cannot be followed.
        """
        marked = self.render([(role, _mark(turn, text)) for turn, (role, text) in enumerate(messages)])
        parts = _MARKED.split(marked)  # template, turn, content, template, turn, content, …, template
        if "".join(part for index, part in enumerate(parts) if index % 3 != 1) != self.render(messages):
            raise DialogueError("the chat template changes messages in a way that cannot be followed")
        last = len(messages) - 1
        spans = [Span(parts[0], "template")]
        for turn, content, template in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            spans += [Span(content, "reply" if int(turn) == last else "context", int(turn)), Span(template, "template")]
        replies = [index for index, span in enumerate(spans) if span.kind == "reply"]
        if not replies:
            raise DialogueError("the chat template leaves nothing of a reply")
        first, stop = replies[0], replies[-1] + 1
        before = spans[first - 1].text
        thinking = _OPENED_THINKING.search(before)
        # The tag that opens a reply's thinking is the reply's, unless the generation prompt has it already.
        if thinking and not self.render(messages[:last], generate=True).endswith(thinking.group()):
            before = before[: thinking.start()]
        text = spans[first - 1].text[len(before) :] + "".join(span.text for span in spans[first:stop])
        after = spans[stop].text
        end = self._end_of(after)
        return [
            *spans[: first - 1],
            Span(before, "template"),
            Span(text, "reply", last),
            Span(end, "end", last),
            Span(after[len(end) :], "template"),
        ]

    def _is_regular(self, messages: tuple[tuple[str, str], ...]) -> bool:
        layout = self.layout(tuple(role for role, _ in messages))
        return layout.is_stable and self.render(messages) == "".join(span.text for span in self.spans(messages))

    def _spans(self, messages: tuple[tuple[str, str], ...]) -> list[Span]:
        layout = self.layout(tuple(role for role, _ in messages))
        spans = []
        end = ""
        for turn, (role, content) in enumerate(messages):
            text = layout.content(turn, content)
            spans.append(Span(layout.pieces[turn][len(end) :], "template"))
            end = layout.ends[turn]
            if role == "assistant":
                spans += [Span(layout.gaps[turn] + text, "reply", turn), Span(end, "end", turn)]
            else:
                spans.append(Span(text, "context", turn))
        return [*spans, Span(layout.pieces[-1][len(end) :], "template")]

    def _layout(self, roles: tuple[str, ...]) -> Layout:
        pieces = self._pieces(roles)
        padded = self._pieces(roles, PAD)
        if len(pieces) != len(roles) + 1 or len(padded) != len(pieces):
            return Layout(pieces, (), (), (), is_stable=False)
        strips = _strips(pieces, padded)
        gap = self._gap() if "assistant" in roles else ""
        opened, gaps, ends, stable = list(pieces), [], [], strips is not None
        replies = [turn for turn, role in enumerate(roles) if role == "assistant"]
        for turn, role in enumerate(roles):
            is_reply = role == "assistant"
            gaps.append(gap if is_reply and gap and pieces[turn].endswith(gap) else "")
            opened[turn] = pieces[turn].removesuffix(gaps[-1])
            ends.append(self._end_of(pieces[turn + 1]) if is_reply else "")
        # A template changes what came before by what came after: it shows at one of the ends.
        for turn in {*replies[:NUM_CHECKED], *replies[-NUM_CHECKED:]}:
            earlier = self._pieces(roles[: turn + 1])
            ends[turn] = self._end_of(earlier[-1])
            stable &= earlier[:-1] == pieces[: turn + 1] and pieces[turn + 1].startswith(ends[turn])
        return Layout(tuple(opened), strips or (), tuple(gaps), tuple(ends), is_stable=stable)

    def _gap(self) -> str:
        """White space that stands between a generation prompt and a reply."""
        try:
            opening = self._pieces(("user",), generate=True)[-1]
            piece = self._pieces(("user", "assistant"))[1]
        except (DialogueError, IndexError):
            return ""
        gap = piece.removeprefix(opening)
        return gap if gap != piece and gap.isspace() else ""

    def _end_of(self, after: str) -> str:
        """What ends a reply: the text behind it up to the first mark."""
        mark = self._marks.search(after)
        return after[: mark.end()] if mark else after

    def _render_pieces(self, roles: tuple[str, ...], pad: str = "", *, generate: bool = False) -> tuple[str, ...]:
        """The template's text between contents that say nothing, each with `pad` on both sides."""
        contents = [f"{pad}{OPEN}{turn}{CLOSE}{pad[::-1]}" for turn in range(len(roles))]
        parts = _SENTINELS.split(self.render(list(zip(roles, contents, strict=True)), generate=generate))
        return tuple(parts[::2]) if parts[1::2] == [str(turn) for turn in range(len(roles))] else ()


def _strips(pieces: Sequence[str], padded: Sequence[str]) -> tuple[tuple[bool, bool], ...] | None:
    """Which paddings each content lost, seen in the text between contents; None where it is neither all nor nothing."""
    left, right = [], [True]
    for piece, seen in zip(pieces, padded, strict=True):
        kept = next(
            (k for k in product((False, True), repeat=2) if seen == PAD[::-1] * k[0] + piece + PAD * k[1]), None
        )
        if kept is None:
            return None
        right.append(not kept[0])
        left.append(not kept[1])
    return tuple(zip(left[:-1], right[2:], strict=True))


def _mark(turn: int, text: str) -> str:
    """A text with marks around what it says, white space and tags of thinking outside of them: templates cut there."""
    if OPEN in text or CLOSE in text:
        raise DialogueError("a message holds private characters U+F5A00 or U+F5A01")
    made, position = [], 0
    for tag in [*THINKING.finditer(text), None]:
        said = text[position : tag.start() if tag else len(text)]
        core = said.strip()
        before, after = said[: len(said) - len(said.lstrip())], said[len(said.rstrip()) :]
        made.append(f"{before}{OPEN}{turn}:{core}{CLOSE}{after}" if core else said)
        if tag:
            made.append(tag.group())
            position = tag.end()
    return "".join(made)


class _GenerationTag(Extension):
    """Accepts `{% generation %}…{% endgeneration %}`, by which some templates mark replies, and renders its body."""

    tags = {"generation"}  # noqa: RUF012  (jinja2's own interface)

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for."""

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    # A template that prints today's date would make the same data other tokens tomorrow.
    environment.globals["strftime_now"] = lambda pattern: datetime(2024, 7, 26).strftime(pattern)  # noqa: DTZ001
    return environment
