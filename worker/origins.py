"""Where the conversations of a version come from: the upload and the line in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import polars as pl

from app.datasets.repository import file_ids_of
from app.db import reading
from app.models import Json

COLUMNS = ("conversation_id", "file", "line")


class Origins:
    """Of versions that were laid out on this machine, the one that is trained on first."""

    def __init__(self, manifests: Mapping[str, Path]) -> None:
        """`manifests` are the paths of the versions' manifests, by version id."""
        self._manifests = manifests

    def told(self, line: Json) -> Json:
        """A line of recovery.jsonl whose records say their upload's id and line."""
        records = line.get("records") or []
        if not records:
            return line
        found = self._find([record["conversation_id"] for record in records])
        return {**line, "records": [{**record, **found.get(record["conversation_id"], {})} for record in records]}

    def _find(self, names: Sequence[str]) -> dict[str, Json]:
        """By conversation id: `file` and `line`."""
        found: dict[str, Json] = {}
        for version_id, manifest in self._manifests.items():
            with reading() as session:
                files = file_ids_of(session, [version_id])[version_id]
            for segment in orjson.loads(manifest.read_bytes())["segments"]:
                rows = pl.scan_parquet(manifest.parent / segment["path"]).select(COLUMNS)
                for row in rows.filter(pl.col("conversation_id").is_in(names)).collect().iter_rows(named=True):
                    origin = {"file": files[row["file"]], "line": row["line"]}
                    found.setdefault(row["conversation_id"], origin)
        return found
