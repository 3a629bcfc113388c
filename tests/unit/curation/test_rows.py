"""Rows put together in columns are hashed as the canonical JSON of each."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.recipe import parse_recipe
from curation.run import curate_frame
from curation.segments import RAW_SCHEMA, SEGMENT_SCHEMA, canonical_message, canonical_user

TEXT = st.one_of(st.text(max_size=6), st.sampled_from(['"', "\\", "\x00", "\x1f", "\x7f", "\u2028", "😀", "嗯" * 40]))
MESSAGE = st.tuples(st.sampled_from(["user", "assistant", "system"]), TEXT, st.sampled_from([None, 0, 1]))
CONVERSATION = st.tuples(TEXT, st.lists(MESSAGE, min_size=1, max_size=6), st.one_of(st.none(), st.just('{"a":"\\n"}')))
AGES = st.sampled_from([None, '{"age":34,"city":"成都","id":"u1"}', '{"crowd":["学生"],"gender":"女"}'])
RECIPE = {
    "operators": [{"kind": "tag_users"}, {"kind": "truncate_history", "max_source_length": 32, "max_target_length": 8}]
}


@pytest.fixture(scope="module", params=[0, 1 << 40], ids=["machine code", "few texts"], autouse=True)
def _worthwhile(request: pytest.FixtureRequest) -> Iterator[None]:
    """Many texts and few are read in two ways."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("curation.compiled.WORTHWHILE_BYTES", request.param)
        yield


def _hash(row: dict[str, Any]) -> bytes:
    """Of one row at a time, as the digest is defined."""
    canonical = {
        "id": row["id"],
        "messages": [canonical_message(message) for message in row["messages"]],
        "user": canonical_user(row["user"]),
        "meta": row["meta"],
    }
    return hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).digest()


@given(st.lists(st.tuples(CONVERSATION, AGES), min_size=1, max_size=4))
def test_a_row_is_hashed_by_its_canonical_json(
    made: Sequence[tuple[tuple[str, list[tuple[str, str, int | None]], str | None], str | None]],
) -> None:
    raw = [
        {
            "id": f"{name}{index}",
            "line": index + 1,
            "messages": [{"role": role, "content": text, "weight": weight} for role, text, weight in messages],
            "user": user,
            "meta": meta,
        }
        for index, ((name, messages, meta), user) in enumerate(made)
    ]
    curated = curate_frame(pl.DataFrame(raw, RAW_SCHEMA), parse_recipe(RECIPE), as_of=date(2026, 11, 1))
    assert curated.rows.schema == SEGMENT_SCHEMA
    for row in curated.rows.iter_rows(named=True):
        assert row["row_sha256"] == _hash(row)
    kept = {number for _, number in curated.dropped.select("conversation_id", "line").iter_rows()}
    assert set(curated.rows["line"]) == {record["line"] for record in raw} - kept
    first = curated.rows.filter(pl.col("window") <= 1)
    assert first["conversation_id"].to_list() == [record["id"] for record in raw if record["line"] not in kept]
