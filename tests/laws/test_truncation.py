"""What holds of `truncate_history` whatever the conversations, seen in the rows and the trace of a version."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.recipe import parse_recipe
from curation.run import curate_frame
from curation.segments import RAW_SCHEMA
from trainer.dialogues import PACKAGED, Message, encode_prompt, encode_window, load_chat_tokenizer, target_turns

SOURCE, TARGET = 96, 12
SAID = st.lists(
    st.sampled_from(["你好", "我想查话费", "谢谢", "abc 12 ", "🙂", "很长的一句话" * 6]), min_size=1, max_size=5
)
PAIR = st.tuples(SAID.map("".join), SAID.map("".join), st.sampled_from([None, None, 0, 1]))


@st.composite
def conversations(draw: st.DrawFn) -> list[list[Message]]:
    made = []
    for _ in range(draw(st.integers(1, 3))):
        messages: list[Message] = [{"role": "system", "content": "你是客服"}] if draw(st.booleans()) else []
        if draw(st.booleans()):
            messages.append({"role": "assistant", "content": "您好，这里是客服", "weight": None})
        for asked, said, weight in draw(st.lists(PAIR, min_size=1, max_size=8)):
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said, "weight": weight}]
        if draw(st.booleans()):
            messages.append({"role": "user", "content": "再见"})
        made.append(messages)
    return made


def _truncate(given_: list[list[Message]], **config: Any) -> Any:
    raw = [
        {
            "id": str(number), "line": number + 1, "user": None, "meta": None,
            "messages": [{"weight": None, **message} for message in messages],
        }
        for number, messages in enumerate(given_)
    ]  # fmt: skip
    step = {"kind": "truncate_history", "max_source_length": SOURCE, "max_target_length": TARGET, **config}
    return curate_frame(pl.DataFrame(raw, RAW_SCHEMA), parse_recipe({"operators": [step]}), as_of=date(2026, 11, 1))


def _rows(curated: Any, number: int) -> Iterator[list[Message]]:
    """A conversation's rows, as training reads them."""
    for row in curated.rows.filter(pl.col("conversation_id") == str(number)).iter_rows(named=True):
        for place in row["cut_replies"] or ():
            row["messages"][place]["cut"] = True
        yield row["messages"]


@pytest.mark.parametrize("mode", ["windows", "newest"])
@given(talks=conversations(), ratio=st.sampled_from([0.0, 0.5, 1.0]))
def test_rows_keep_to_their_budgets_and_replies_are_learned_once(
    mode: str, talks: list[list[Message]], ratio: float
) -> None:
    chat = load_chat_tokenizer(PACKAGED)
    curated = _truncate(talks, mode=mode, min_history_ratio=ratio)
    for number, messages in enumerate(talks):
        replies = [messages[turn]["content"] for turn in target_turns(messages)]
        rows = list(_rows(curated, number))
        learned = [row[place]["content"] for row in rows for place in target_turns(row)]
        if mode == "newest":
            assert len(rows) == 1
            replies = replies[len(replies) - len(learned) :]
            assert replies or not target_turns(messages), "the last reply is always there"
        assert len(learned) == len(replies)
        for kept, whole in zip(learned, replies, strict=True):
            assert whole.startswith(kept)
            assert chat.count(kept) <= TARGET
        for row in rows:
            assert (row[0]["role"] == "system") == (messages[0]["role"] == "system")
            encoded = encode_window(chat, row, TARGET)
            last = target_turns(row)[-1:]
            assert all(len(encode_prompt(chat, row[:place])) <= SOURCE for place in last)
            assert len(encoded.ids) <= SOURCE + TARGET


@pytest.mark.parametrize("mode", ["windows", "newest"])
@given(talks=conversations())
def test_what_is_in_no_row_is_in_the_trace(mode: str, talks: list[list[Message]]) -> None:
    curated = _truncate(talks, mode=mode)
    trace = curated.trace.to_dicts()
    for number, messages in enumerate(talks):
        mine = [row for row in trace if row["conversation_id"] == str(number)]
        gone = {row["turn"] for row in mine if row["code"] == "not_needed"}
        cut = {row["turn"]: row for row in mine if row["code"] == "cut"}
        for row in cut.values():
            assert messages[row["turn"]]["content"][row["start"] : row["end"]] == row["before"]
        expected = {messages[turn]["content"] for turn in range(len(messages)) if turn not in gone and turn not in cut}
        shown = {message["content"] for row in _rows(curated, number) for message in row}
        assert expected <= shown
        rows = curated.rows.filter(pl.col("conversation_id") == str(number))
        assert rows["turns"].sum() == len(messages) - len(gone), "turns kept and gone add up"


def test_no_tokenizer_is_opened_where_nothing_is_long() -> None:
    load_chat_tokenizer.cache_clear()
    short: list[Message] = [{"role": "user", "content": "查话费"}, {"role": "assistant", "content": "好"}]
    _truncate([short] * 20)
    assert load_chat_tokenizer.cache_info().misses == 0
    _truncate([short, [{"role": "user", "content": "长" * SOURCE}, short[1]]])
    assert load_chat_tokenizer.cache_info().misses == 1
