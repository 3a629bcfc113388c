"""Done work is not done again: a segment's result is known by what it was made from and how.

Up to a recipe's first barrier (an operator of dataset scope) that is the segment's content and the steps so far,
whatever other segments there are. Beyond a barrier it is also what was decided there: a segment on which the same was
decided as in an earlier version is taken over whole.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import orjson

from curation.recipe import Recipe
from curation.run import Result, SegmentResult

ENGINE_VERSION = 2
"""Raised when the engine makes something else of the same operators' proposals; their own versions are in a recipe's
fingerprint."""


def result_key(raw_sha256: str, recipe: Recipe, *, file: int, as_of: date, ids: Mapping[int, str]) -> str:
    """Names the result of `curate_segment`; its `ordinal` does not count.

    Of `as_of` only the year does: ages are counted in whole years, so next month's version finds this month's results.
    """
    renames = {str(line): name for line, name in sorted(ids.items())}
    parts = [ENGINE_VERSION, raw_sha256, recipe.stage(0).fingerprint, file, as_of.year, renames]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def resumed_key(key: str, decisions_sha256: str, recipe: Recipe, stage: int) -> str:
    """Names the result of `resume_segment` at the barrier `stage`, from the key of what waited there."""
    parts = [key, decisions_sha256, recipe.stage(stage).fingerprint]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def renumbered(result: Result, ordinal: int) -> Result:
    """The result as that of the segment at another place in a version; what waits at a barrier has no place yet."""
    if not isinstance(result, SegmentResult):
        return result
    parts = {
        name: replace(part, path=f"{part.path.partition('/')[0]}/{ordinal:05d}.parquet")
        for name, part in (("segment", result.segment), ("trace", result.trace), ("dropped", result.dropped))
    }
    return SegmentResult(**parts, counts=result.counts)
