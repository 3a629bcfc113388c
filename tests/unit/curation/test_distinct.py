"""Rows that say the same."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.distinct import first_alike

ROW = st.tuples(st.sampled_from(("user", "assistant", None)), st.sampled_from(("", "嗯", "嗯嗯", None)))


@given(st.lists(ROW, max_size=30))
def test_each_row_has_the_first_of_its_content(rows: list[tuple[str | None, str | None]]) -> None:
    frame = pl.DataFrame(rows, {"role": pl.String, "text": pl.String}, orient="row")
    assert first_alike(frame).to_list() == [rows.index(row) for row in rows]
