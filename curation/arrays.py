"""Between columns of polars and plain arrays: texts laid out one behind the other, lists by their ends."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Texts = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]
"""Where each text ends, behind the 0 at which the first begins; and the UTF-8 of all, one behind the other."""


def laid_out(texts: pl.Series) -> Texts:
    """Texts, none of them null, as arrays."""
    arrow = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, bounds, content = arrow.buffers()
    ends = np.frombuffer(bounds, dtype=np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    held = np.frombuffer(content or b"", dtype=np.uint8)
    return ends - ends[0], held[ends[0] : ends[-1]]


def text_array(texts: Texts) -> pa.Array:
    """Texts, which must be UTF-8, as a column of Arrow's; nothing is copied."""
    ends, held = texts
    return pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(held))


def listed(columns: Mapping[str, pa.Array | pl.Series], ends: npt.NDArray[np.int64]) -> pl.Series:
    """Lists of structs, from the members' columns and from where each list ends, behind a 0."""
    oldest = pl.CompatLevel.oldest()
    parts = [part.to_arrow(compat_level=oldest) if isinstance(part, pl.Series) else part for part in columns.values()]
    lists = pa.LargeListArray.from_arrays(pa.array(ends), pa.StructArray.from_arrays(parts, list(columns)))
    return pl.DataFrame(pa.RecordBatch.from_arrays([lists], ["listed"])).to_series()
