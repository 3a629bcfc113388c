"""Slices of a version by its users' tags: `province:四川省`, as statistics are asked for them."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Where = Sequence[str]
"""Conditions `tag:value`: several of one tag mean any of them, different tags all of them."""
UNKNOWN = "unknown"
"""The value that a tag has where nothing is known."""


def matches(users: pa.ChunkedArray, where: Where) -> np.ndarray:
    """Which of a version's users meet the conditions; a tag with several values meets one if any of them does."""
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    for condition in where:
        tag, _, value = condition.partition(":")
        wanted[tag].append(value)
    found = np.ones(len(users), np.bool_)
    for tag, values in wanted.items():
        column = pc.struct_field(users, tag)
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            found &= [not set(values).isdisjoint(own or [UNKNOWN]) for own in column.to_pylist()]
        else:
            known = pc.fill_null(pc.cast(column, pa.string()), UNKNOWN)
            found &= pc.is_in(known, value_set=pa.array(values, pa.string())).to_numpy()
    return found
