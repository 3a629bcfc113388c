"""Windows, truncation and loss masks, over random dialogues."""

from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.dialogues import (
    ChatTokenizer,
    DialogueError,
    Lengths,
    Message,
    NoRoomError,
    encode_prompt,
    encode_window,
    load_chat_tokenizer,
    make_windows,
    target_turns,
    truncate_prompt,
)

WORDS = st.sampled_from(
    ["你好", "我想查话费", "订单号12345", "谢谢", "Hello there", "嗯", "<|im_end|>", "很长的一句话" * 12]
)


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return load_chat_tokenizer("deepseek")


@st.composite
def dialogues(draw: st.DrawFn) -> list[Message]:
    """Alternating turns, perhaps with a system message, an outbound opening, unlearned replies."""
    texts = st.lists(WORDS, min_size=1, max_size=4).map("".join)
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(WORDS)})
    if draw(st.booleans()):
        messages.append({"role": "assistant", "content": draw(texts)})
    for _ in range(draw(st.integers(1, 12))):
        messages.append({"role": "user", "content": draw(texts)})
        weight = draw(st.sampled_from([None, None, None, 0, 1]))
        messages.append({"role": "assistant", "content": draw(texts), "weight": weight})
    return messages


@settings(deadline=None)
@given(
    messages=dialogues(), source=st.integers(120, 600), target=st.integers(8, 200), ratio=st.sampled_from([0, 0.5, 1])
)
def test_every_reply_is_learned_once_within_its_budget(
    chat: ChatTokenizer, messages: list[Message], source: int, target: int, ratio: float
) -> None:
    windows = make_windows(chat, messages, Lengths(source, target, ratio))
    learned = [window.turns[index] for window in windows for index in target_turns(window.messages)]
    assert learned == target_turns(messages)
    for window in windows:
        row = encode_window(chat, window.messages, target)
        targets = [i for i, flag in enumerate(row.is_target) if flag]
        if not targets:
            continue
        assert len(row.ids) <= source + target
        assert row.is_target[-1], "a row ends with its last learned token"
        last = target_turns(window.messages)[-1]
        prompt = encode_prompt(chat, window.messages[:last])
        assert row.ids[: len(prompt)] == prompt, "a reply's source is what chat would send"
        assert len(prompt) <= source
        kept = window.messages[1:] if messages[0]["role"] == "system" else window.messages
        if messages[0]["role"] == "system":
            assert window.messages[0]["role"] == "system"
        assert window.turns[0] == 0 or kept[0]["role"] == "user"


ROLES_IN_ANY_ORDER = st.lists(
    st.builds(
        lambda role, text, times, weight: {"role": role, "content": text * times, "weight": weight},
        st.sampled_from(["user", "assistant"]), WORDS, st.integers(1, 60), st.sampled_from([None, None, 0]),
    ),
    min_size=2,
    max_size=9,
)  # fmt: skip


@settings(deadline=None)
@given(messages=ROLES_IN_ANY_ORDER, source=st.integers(48, 100), mode=st.sampled_from(["newest", "windows"]))
@example(
    messages=[
        {"role": "user", "content": "很长的一句话" * 20},
        {"role": "assistant", "content": "内容" * 30, "weight": 0},
        {"role": "assistant", "content": "内容" * 10},
        {"role": "assistant", "content": "好"},
    ],
    source=64,
    mode="newest",
)
def test_every_reply_that_is_learned_sees_no_more_than_its_budget(
    chat: ChatTokenizer, messages: list[Message], source: int, mode: Literal["newest", "windows"]
) -> None:
    for window in make_windows(chat, messages, Lengths(source, 32), mode=mode):
        assert len(encode_window(chat, window.messages, 32).ids) <= source + 32
        for reply in target_turns(window.messages):
            assert len(encode_prompt(chat, window.messages[:reply])) <= source


def test_a_dialogue_that_fits_is_one_unchanged_window(chat: ChatTokenizer) -> None:
    messages: list[Message] = [
        {"role": "assistant", "content": "您好，请问有什么可以帮您？"},
        {"role": "user", "content": "查话费"},
        {"role": "assistant", "content": "好的"},
    ]
    (window,) = make_windows(chat, messages, Lengths(1024, 512))
    assert [m["content"] for m in window.messages] == [m["content"] for m in messages]
    row = encode_window(chat, window.messages, 512)
    assert chat.decode([t for t, flag in zip(row.ids, row.is_target, strict=True) if flag]) == "好的"
    assert row.ids[-1] == chat.eos_ids[0], "the end-of-turn token is learned"


def test_marker_text_in_a_message_is_plain_text(chat: ChatTokenizer) -> None:
    end = chat.eos_ids[0]
    row = encode_window(
        chat, [{"role": "user", "content": "<|im_end|>" * 3}, {"role": "assistant", "content": "<|im_end|>"}], 64
    )
    assert row.ids.count(end) == 2, "one end for each turn, none from the text"


def test_an_oversized_turn_is_cut_on_its_left_and_a_long_reply_on_its_right(chat: ChatTokenizer) -> None:
    messages: list[Message] = [
        {"role": "user", "content": "开头" + "中间" * 500 + "结尾"},
        {"role": "assistant", "content": "答复" * 300},
    ]
    (window,) = make_windows(chat, messages, Lengths(128, 32))
    assert window.messages[0]["content"].endswith("结尾")
    assert messages[1]["content"].startswith(window.messages[1]["content"])
    assert [cut.turn for cut in window.cuts] == [0, 1]
    row = encode_window(chat, window.messages, 32)
    assert row.ids[-1] != chat.eos_ids[0], "a cut reply does not get the end token"
    assert len(row.ids) <= 128 + 32


def test_newest_keeps_what_the_last_reply_needs(chat: ChatTokenizer) -> None:
    messages: list[Message] = [
        {"role": role, "content": f"第{i}轮" + "内容" * 30} for i in range(10) for role in ("user", "assistant")
    ]  # type: ignore[misc]
    (window,) = make_windows(chat, messages, Lengths(200, 100), mode="newest")
    assert window.turns[-1] == len(messages) - 1
    assert window.messages[0]["role"] == "user"
    assert len(window.turns) < len(messages)


def test_a_prompt_is_truncated_as_in_training(chat: ChatTokenizer) -> None:
    turns: list[Message] = [{"role": "user", "content": "很久以前" * 200}, {"role": "assistant", "content": "嗯"}]
    prompt = truncate_prompt(chat, [*turns, {"role": "user", "content": "现在呢"}], 64)
    assert len(prompt) <= 64
    assert chat.decode(prompt).startswith("user\n现在呢")


def test_a_template_that_refuses_the_roles_is_a_clear_error() -> None:
    template = "{{ raise_exception('only users') }}"
    base = load_chat_tokenizer("deepseek")
    strict = ChatTokenizer("strict", base.tokenizer.to_str(), {}, template)
    with pytest.raises(DialogueError, match="refuses the turns"):
        strict.layout(("user", "assistant"))


ROLES = st.sampled_from(["user", "user", "assistant", "assistant", "assistant", "system"])
FEW_WORDS = st.sampled_from(["好", "我想查话费", "请稍等，这就为您查询。", "abc 12 " * 4, "很长的一句话" * 4])


@st.composite
def any_roles(draw: st.DrawFn) -> list[Message]:
    """Turns in any order of roles."""
    turns = draw(st.lists(st.tuples(ROLES, FEW_WORDS, st.sampled_from([None, None, 0])), min_size=2, max_size=14))
    return [{"role": role, "content": said, "weight": weight} for role, said, weight in turns]


def allowed_starts(chat: ChatTokenizer, messages: list[Message], lengths: Lengths, reply: int) -> set[int]:
    """Where a reply's history may begin, by trying every place; none where one turn alone is too long."""
    num_system = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
    starts = [i for i in range(num_system, reply) if i == num_system or messages[i]["role"] == "user"]
    budget = lengths.max_source_length
    sizes = {i: len(encode_prompt(chat, [*messages[:num_system], *messages[i:reply]])) for i in starts}
    fitting = [i for i in starts if sizes[i] <= budget]
    return {i for i in fitting if i == fitting[0] or sizes[i] >= lengths.min_history_ratio * budget}


def fewest_windows(allowed: list[set[int]]) -> int:
    """The least number of runs of replies of which each has a start that all its replies allow."""
    fewest = [0]
    for end in range(1, len(allowed) + 1):
        runs = (start for start in range(end) if end - start == 1 or set.intersection(*allowed[start:end]))
        fewest.append(min(fewest[start] + 1 for start in runs))
    return fewest[-1]


@settings(deadline=None)
@given(messages=any_roles(), source=st.sampled_from([64, 90, 140]), ratio=st.sampled_from([0, 0.3, 0.5, 0.9, 1.0]))
def test_windows_are_the_fewest_and_as_rich_as_can_be(
    chat: ChatTokenizer, messages: list[Message], source: int, ratio: float
) -> None:
    lengths = Lengths(source, 256, ratio)
    replies = target_turns(messages)
    allowed = {reply: allowed_starts(chat, messages, lengths, reply) for reply in replies}
    try:
        windows = make_windows(chat, messages, lengths)
    except NoRoomError:
        return
    learned = [[window.turns[i] for i in target_turns(window.messages)] for window in windows]
    assert [reply for here in learned for reply in here] == replies, "whatever the roles, each is learned once"
    if not replies:
        return
    assert len(windows) == fewest_windows(list(allowed.values()))
    num_system = next(i for i, message in enumerate(messages) if message["role"] != "system")
    for window, here in zip(windows, learned, strict=True):
        assert window.turns[:num_system] == tuple(range(num_system)), "the system message is always there"
        start = window.turns[num_system]
        assert all(start in allowed[reply] for reply in here if allowed[reply])
        assert start == min(allowed[here[-1]], default=start), "a reply sees all that costs no window"
        assert any(messages[turn]["role"] == "user" for turn in window.turns if turn < here[0])
        assert len(encode_prompt(chat, window.messages[: window.turns.index(here[-1])])) <= source


def test_a_turn_between_that_is_too_long_leaves_the_users_turn_and_its_own_end(chat: ChatTokenizer) -> None:
    messages: list[Message] = [
        {"role": "user", "content": "查话费"},
        {"role": "assistant", "content": "开头" + "中间" * 300 + "结尾", "weight": 0},
        {"role": "assistant", "content": "好的"},
    ]
    (window,) = make_windows(chat, messages, Lengths(64, 32))
    assert [m["role"] for m in window.messages] == ["user", "assistant", "assistant"]
    assert window.messages[1]["content"].endswith("结尾")
    assert target_turns(window.messages) == [2]
    assert len(encode_prompt(chat, window.messages[:2])) <= 64


def test_a_template_that_leaves_no_room_is_a_clear_error(chat: ChatTokenizer) -> None:
    messages: list[Message] = [{"role": "system", "content": "短"}] * 4 + [
        {"role": "user", "content": "查话费"},
        {"role": "assistant", "content": "好的"},
    ]
    with pytest.raises(NoRoomError, match="template alone"):
        make_windows(chat, messages, Lengths(16, 32))
