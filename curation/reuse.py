"""Done work is not done again: a segment's result is known by what it was made from and how."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import orjson

from curation.recipe import Recipe
from curation.run import SegmentResult

ENGINE_VERSION = 1
"""Raised when the engine makes something else of the same operators' proposals; their own versions are in a recipe's
fingerprint."""


def result_key(raw_sha256: str, recipe: Recipe, *, file: int, as_of: date, ids: Mapping[int, str]) -> str:
    """Names the result of `curate_segment`; its `ordinal` does not count.

    Of `as_of` only the year does: ages are counted in whole years, so next month's version finds this month's results.
    """
    renames = {str(line): name for line, name in sorted(ids.items())}
    parts = [ENGINE_VERSION, raw_sha256, recipe.fingerprint, file, as_of.year, renames]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def renumbered(result: SegmentResult, ordinal: int) -> SegmentResult:
    """The result as that of the segment at another place in a version."""
    parts = {
        name: replace(part, path=f"{part.path.partition('/')[0]}/{ordinal:05d}.parquet")
        for name, part in (("segment", result.segment), ("trace", result.trace), ("dropped", result.dropped))
    }
    return SegmentResult(**parts, counts=result.counts)
