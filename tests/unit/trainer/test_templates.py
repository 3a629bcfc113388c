"""Families of chat templates: rows hold the library's own tokens, and every reply is learned as chat would give it."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from trainer.dialogues import (
    ChatTokenizer,
    DialogueError,
    Lengths,
    Message,
    encode_prompt,
    encode_window,
    load_chat_tokenizer,
    make_windows,
    target_turns,
)

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
SPECIAL = [
    BOS, EOS, "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]",
]  # fmt: skip
NOT_SPECIAL = ["<think>", "</think>", "<｜User｜>", "<｜Assistant｜>"]
"""Marks that their families' tokenizers list as ordinary added tokens."""
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""What byte-level tokenizers of today take for words: a stop takes line ends behind it along."""
CORPUS = ["Hello world. ok the USER: ASSISTANT: system user assistant\n\n", "你好，查话费，订单。请稍等，好的"] * 30
TEMPLATES = {
    "chatml": (
        "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor -%}"
        "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
    ),
    "qwen2": (
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n"
        "{% endif %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
        "{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "deepseek": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
        "{% elif m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>{{ m.content }}{{ eos_token }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
    ),
    "smollm2": (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\nYou are SmolLM.<|im_end|>\n' }}"
        "{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
        "{% set ns.system = m.content + '\n\n' %}{% elif m.role == 'user' %}{{ '[INST] ' + ns.system + m.content + ' [/INST]' }}"
        "{% set ns.system = '' %}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    ),
    "words": (
        "{% for m in messages %}{{ {'user': 'USER', 'assistant': 'ASSISTANT', 'system': 'SYSTEM'}[m.role] }}: "
        "{{ m.content }}{{ eos_token if m.role == 'assistant' else '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    ),
}
"""Written after the published formats of their families."""
QWEN3 = (
    "{%- set ns = namespace(last=-1) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}"
    "{%- endif -%}{%- endfor -%}{%- for m in messages -%}{%- if m.role != 'assistant' -%}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- else -%}{%- set said = m.content -%}{%- set thought = '' -%}"
    "{%- if '</think>' in said -%}{%- set thought = said.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}"
    "{%- set said = said.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}{%- if loop.index0 > ns.last -%}"
    "{{- '<|im_start|>assistant\n<think>\n' + thought.strip('\n') + '\n</think>\n\n' + said.lstrip('\n') -}}"
    "{%- else -%}{{- '<|im_start|>assistant\n' + said -}}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
"""Thinking is shown of what follows the last question only, and there even where there is none."""
DROPS_THINKING = (
    "{% for m in messages %}{% set said = m.content %}"
    "{% if m.role == 'assistant' and not loop.last and '</think>' in said %}{% set said = said.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + said + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKS_THE_LAST = (
    "{% for m in messages %}{{ '[last]' if loop.last else '[old]' }}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[last]assistant:{% endif %}"
)


@lru_cache(maxsize=2)
def tokenizer_json(*, spaced: bool) -> str:
    """A small tokenizer: byte-level with the marks of all families, or (`spaced`) one that puts a space before a text."""
    if spaced:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=False)]
        )
        first, alphabet = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))], []
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        first, alphabet = [], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=first, initial_alphabet=alphabet, show_progress=False, max_token_length=8
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL])
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in NOT_SPECIAL])
    return tokenizer.to_str()


def tokenizer_with(template: str | None, *, spaced: bool = False) -> ChatTokenizer:
    return ChatTokenizer("made", tokenizer_json(spaced=spaced), {"bos_token": BOS, "eos_token": EOS}, template)


class Both:
    """Our tokenizer, and the library's of the folder that ours saves."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.chat = tokenizer_with(TEMPLATES[name], spaced=name == "mistral")
        self.chat.save(folder)
        self.library: Any = AutoTokenizer.from_pretrained(folder)

    def __repr__(self) -> str:
        return self.name


@pytest.fixture(scope="module", params=TEMPLATES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, tmp_path_factory.mktemp(request.param))


TEXT = st.lists(
    st.sampled_from(["你好", "查话费", " hello", "World ", "12345", "。", "\n", "  ", "ok", "订单", "the", "é", "🙂"]),
    min_size=1,
    max_size=6,
).map("".join)


@st.composite
def dialogues(draw: st.DrawFn) -> list[Message]:
    system: list[Message] = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    turns: list[Message] = []
    for _ in range(draw(st.integers(1, 4))):
        turns += [{"role": "user", "content": draw(TEXT)}, {"role": "assistant", "content": f"答{draw(TEXT)}"}]
    return system + turns


laws: Callable[[Any], Any] = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@laws
@given(messages=dialogues())
def test_a_row_holds_the_tokens_that_the_library_gives(both: Both, messages: list[Message]) -> None:
    chat, library = both.chat, both.library
    row = encode_window(chat, messages, 512)
    expected = library.apply_chat_template([dict(m) for m in messages], tokenize=True, return_dict=True)["input_ids"]
    assert chat.tokenizer.decode(row.ids, skip_special_tokens=False) == library.decode(expected[: len(row.ids)])
    assert abs(len(expected) - len(row.ids)) <= 2, "what ends the last turn behind its mark is not learned"
    if chat.template != TEMPLATES["words"]:  # without marks, a token of the library's may reach into a reply
        assert row.ids == expected[: len(row.ids)]


@laws
@given(
    messages=dialogues(), source=st.integers(48, 120), target=st.integers(4, 24), ratio=st.sampled_from([0, 0.5, 1.0])
)
def test_replies_are_learned_once_within_their_budgets(
    both: Both, messages: list[Message], source: int, target: int, ratio: float
) -> None:
    chat = both.chat
    windows = make_windows(chat, messages, Lengths(source, target, ratio))
    assert [w.turns[i] for w in windows for i in target_turns(w.messages)] == target_turns(messages)
    for window in windows:
        row = encode_window(chat, window.messages, target)
        assert len(row.ids) <= source + target
        replies = target_turns(window.messages)
        prompts = [encode_prompt(chat, window.messages[:reply]) for reply in replies]
        starts = [i for i, flag in enumerate(row.is_target) if flag and not row.is_target[i - 1]]
        assert [len(prompt) for prompt in prompts] == starts, "nothing before a reply's content is learned"
        assert all(row.ids[: len(prompt)] == prompt and len(prompt) <= source for prompt in prompts)
        for reply, start in zip(replies, starts, strict=True):
            learned = row.is_target[start:].index(False) if False in row.is_target[start:] else len(row.ids) - start
            assert learned <= target
            is_cut = any(cut.turn == window.turns[reply] for cut in window.cuts)
            has_end = row.ids[start + learned - 1] in chat.eos_ids
            assert has_end != is_cut or (not is_cut and learned == target), "a cut reply has no end"


def test_the_default_system_prompt_is_shown_and_counted() -> None:
    chat = tokenizer_with(TEMPLATES["qwen2"])
    assert chat.default_system == "You are helpful."
    asked: list[Message] = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]
    assert "You are helpful." in chat.decode(encode_window(chat, asked, 64).ids)
    with_own: list[Message] = [{"role": "system", "content": "简短"}, *asked]
    assert "You are helpful." not in chat.decode(encode_window(chat, with_own, 64).ids)


@pytest.mark.parametrize("name", ["llama3", "deepseek"])
def test_there_is_one_beginning_of_a_text(name: str) -> None:
    chat = tokenizer_with(TEMPLATES[name])
    asked: list[Message] = [{"role": "user", "content": BOS + "你好"}, {"role": "assistant", "content": "您好"}]
    assert encode_window(chat, asked, 64).ids.count(chat.tokenizer.token_to_id(BOS)) == 1


def test_thinking_that_later_turns_drop_makes_each_reply_a_row_of_its_own() -> None:
    chat = tokenizer_with(DROPS_THINKING)
    thought = "<think>\n他要查话费\n</think>\n\n"
    messages: list[Message] = [
        {"role": "user", "content": "查话费"}, {"role": "assistant", "content": thought + "好的"},
        {"role": "user", "content": "谢谢"}, {"role": "assistant", "content": thought + "不客气"},
    ]  # fmt: skip
    windows = make_windows(chat, messages, Lengths(256, 64))
    assert [[w.turns[i] for i in target_turns(w.messages)] for w in windows] == [[1], [3]]
    rows = [encode_window(chat, window.messages, 64) for window in windows]
    learned = [
        chat.tokenizer.decode([t for t, f in zip(r.ids, r.is_target, strict=True) if f], skip_special_tokens=False)
        for r in rows
    ]
    assert learned == [f"{thought}好的<|im_end|>", f"{thought}不客气<|im_end|>"]
    shown = chat.tokenizer.decode(rows[1].ids, skip_special_tokens=False)
    assert shown.count("他要查话费") == 1, "the first reply's thinking is gone from the second one's history"
    plain: list[Message] = [{**m, "content": m["content"].removeprefix(thought)} for m in messages]  # type: ignore[typeddict-item, misc]
    assert len(make_windows(chat, plain, Lengths(256, 64))) == 1, "without thinking nothing changes"


def test_a_template_that_changes_the_past_shows_each_reply_as_chat_does() -> None:
    chat = tokenizer_with(MARKS_THE_LAST)
    messages: list[Message] = [
        {"role": role, "content": f"{role}{i}"} for i in range(3) for role in ("user", "assistant")
    ]  # type: ignore[misc]
    windows = make_windows(chat, messages, Lengths(256, 64))
    assert len(windows) == 3
    for window in windows:
        text = chat.tokenizer.decode(encode_window(chat, window.messages, 64).ids, skip_special_tokens=False)
        assert text.count("[last]") == 1
    with pytest.raises(DialogueError, match="row of its own"):
        encode_window(chat, messages, 64)


def test_a_tokenizer_without_a_template_gets_chatml(tmp_path: Path) -> None:
    chat = tokenizer_with(None)
    chat.save(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.eos_token_id == chat.eos_ids[0] == chat.tokenizer.token_to_id("<|im_end|>")
    assert not chat.has_own_template
    assert not load_chat_tokenizer(str(tmp_path)).has_own_template, "the saved one neither"


def test_the_mask_is_the_librarys_where_the_template_marks_replies(tmp_path: Path) -> None:
    chat = tokenizer_with(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    chat.save(tmp_path)
    messages: list[Message] = [
        {"role": "system", "content": "简短"}, {"role": "user", "content": "查话费.\n"}, {"role": "assistant", "content": "ok 好的"},
        {"role": "user", "content": "the order 12345"}, {"role": "assistant", "content": "请稍等。"},
    ]  # fmt: skip
    row = encode_window(chat, messages, 64)
    theirs: Any = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        [dict(m) for m in messages], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert row.ids == theirs["input_ids"][: len(row.ids)]
    assert [int(flag) for flag in row.is_target] == theirs["assistant_masks"][: len(row.ids)]
    assert not any(theirs["assistant_masks"][len(row.ids) :])


def test_a_template_that_shows_thinking_of_the_last_reply_only(tmp_path: Path) -> None:
    chat = tokenizer_with(QWEN3)
    chat.save(tmp_path)
    library: Any = AutoTokenizer.from_pretrained(tmp_path)
    messages: list[Message] = [
        {"role": "user", "content": "查话费"}, {"role": "assistant", "content": "<think>\n他要查话费\n</think>\n\n好的"},
        {"role": "user", "content": "谢谢"}, {"role": "assistant", "content": "不客气"},
    ]  # fmt: skip
    windows = make_windows(chat, messages, Lengths(256, 64))
    learned = []
    for window in windows:
        row = encode_window(chat, window.messages, 64)
        shown = [{"role": m["role"], "content": m["content"]} for m in window.messages]
        expected = library.apply_chat_template(shown, tokenize=True, return_dict=True)["input_ids"]
        assert row.ids == expected[: len(row.ids)]
        first = row.is_target.index(True)
        assert row.ids[:first] == encode_prompt(chat, window.messages[:-1]) or "</think>" in shown[-1]["content"]
        learned.append(chat.tokenizer.decode(row.ids[first:], skip_special_tokens=False))
    assert learned == ["<think>\n他要查话费\n</think>\n\n好的<|im_end|>", "不客气<|im_end|>"]
    answer = chat.tokenizer.decode(encode_prompt(chat, messages[:1]), skip_special_tokens=False)
    assert answer.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n"), (
        "chat opens a reply as a reply without thinking"
    )


@pytest.mark.parametrize("roles", [("user", "tool", "assistant"), ("assistant", "user", "assistant")])
def test_roles_that_a_template_does_not_know_are_a_clear_error(roles: tuple[str, ...]) -> None:
    strict = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages: list[Message] = [{"role": role, "content": "x"} for role in roles]
    with pytest.raises(DialogueError, match="must alternate"):
        make_windows(tokenizer_with(strict), messages, Lengths(64, 64))
