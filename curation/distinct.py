"""Rows that say the same, told by their hashes: agents repeat themselves, and work is done once for each text."""

from itertools import count

import polars as pl


def first_alike(frame: pl.DataFrame) -> pl.Series:
    """For each row the index of the first row of the same content; nulls are alike.

    Rows of one hash are compared: should ever two of them differ, another hash is taken.
    """
    for seed in count():
        hashed = pl.DataFrame({"hash": frame.hash_rows(seed=seed)}).with_row_index()
        first = hashed.select(pl.col("index").first().over("hash")).to_series()
        if frame[first].equals(frame):
            break
    return first
