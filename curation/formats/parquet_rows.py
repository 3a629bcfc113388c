"""Parquet files become records, one at a time; a record's number is its row."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import InputError
from curation.formats.readers import Item, refuse_repeated
from curation.formats.streams import ALWAYS_ALLOWED_BYTES, MAX_RATIO

PARQUET_ROWS = 16
"""Rows decoded at once: few, since each may be megabytes long and take a few bytes in the file."""


def read_parquet(source: Path) -> Iterator[Item]:
    """Rows as objects.

    Raises:
        InputError: the file is no Parquet, or expands without measure.
    """
    limit = max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * source.stat().st_size)
    number, offset = 0, 0
    try:
        with pq.ParquetFile(source) as file:
            sizes = (file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
            _refuse_bomb(sum(sizes), limit)
            refuse_repeated(file.schema_arrow.names)
            for batch in map(_plain, file.iter_batches(PARQUET_ROWS)):
                _refuse_bomb(offset + batch.nbytes, limit)
                for row in batch.to_pylist(maps_as_pydicts="lossy"):
                    number += 1
                    yield Item(number, offset, row)
                offset += batch.nbytes
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the Parquet file cannot be read ({type(error).__name__})") from None


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch without dictionaries, so that its size is told as it will be in memory."""
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _refuse_bomb(size: int, limit: int) -> None:
    if size > limit:
        raise InputError(f"the file expands to more than {MAX_RATIO} times its size: write it in smaller row groups")
