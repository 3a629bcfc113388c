"""Families of chat templates: rows hold the library's own tokens, and every reply is learned as chat would give it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<think>", "</think>"]
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
    "words": (
        "{% for m in messages %}{{ {'user': 'USER', 'assistant': 'ASSISTANT', 'system': 'SYSTEM'}[m.role] }}: "
        "{{ m.content }}{{ eos_token if m.role == 'assistant' else '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    ),
}
"""Written after the published formats of their families."""
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


def tokenizer_with(template: str, name: str = "made") -> ChatTokenizer:
    base = load_chat_tokenizer("deepseek").tokenizer
    copy = type(base).from_str(base.to_str())
    copy.add_special_tokens(MARKS)
    return ChatTokenizer(name, copy.to_str(), {"bos_token": BOS, "eos_token": EOS}, template)


class Both:
    """Our tokenizer, and the library's of the folder that ours saves."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.chat = tokenizer_with(TEMPLATES[name])
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
        row = encode_window(chat, window.messages, target, window.cut_replies)
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
    base = load_chat_tokenizer("deepseek")
    chat = ChatTokenizer("bare", base.tokenizer.to_str(), {"eos_token": EOS}, None)
    chat.save(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.eos_token_id == chat.eos_ids[0] == chat.tokenizer.token_to_id("<|im_end|>")
    assert not chat.has_own_template


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
