"""Runs a recipe: one raw segment at a time, then the closing of a version.

Where the recipe has an operator of dataset scope, each segment is curated up to that barrier and surveyed; when all
are, it is decided on them together; then each goes on with what was decided on it. Memory is bounded by one segment.
What a segment becomes depends on its content, the recipe, `as_of` and these decisions only.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from curation.memory import give_back
from curation.operator import Shard
from curation.passage import FILES, Curated, Passage
from curation.recipe import Recipe
from curation.segments import digest_rows, file_sha256, scan_raw, write_arrow, write_json, write_parquet
from curation.statistics import count_tags

MANIFEST_FORMAT = "talkmill.version/1"
COUNTED = (
    "conversations_in",
    "conversations_kept",
    "conversations_dropped",
    "rows",
    "turns_in",
    "turns_kept",
    "turns_edited",
)
NOTHING_KEPT = "the version keeps no conversation: see the dropped ones and why"


@dataclass(frozen=True)
class Part:
    """A written file of a version, relative to its folder."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class SegmentResult:
    """What curating one raw segment gave."""

    segment: Part
    trace: Part
    dropped: Part
    counts: dict[str, Any]


@dataclass(frozen=True)
class StageResult:
    """A segment that waits at a barrier of the recipe: its passage so far, and what the others need to know of it."""

    conversations: Part
    turns: Part
    trace: Part
    survey: Part

    @property
    def passage(self) -> dict[str, Part]:
        """The parts that the passage is taken up from."""
        return {name: getattr(self, name) for name in FILES}


Result = SegmentResult | StageResult


def read_result(value: Mapping[str, Any]) -> Result:
    """The inverse of `dataclasses.asdict`, of either kind of result."""
    parts = {name: Part(**part) for name, part in value.items() if name != "counts"}
    return StageResult(**parts) if "survey" in parts else SegmentResult(**parts, counts=value["counts"])


def curate_segment(
    raw: Path,
    recipe: Recipe,
    out: Path,
    *,
    ordinal: int,
    file: int,
    as_of: date,
    ids: Mapping[int, str] | None = None,
) -> Result:
    """Curates one raw segment into `out/segments`, `out/trace` and `out/dropped`; or up to the recipe's first barrier.

    `ordinal` is the segment's place in the version, `file` its file's; `ids` renames conversations by line.
    """
    passage = Passage.begin(_read_raw(raw, ids or {}))
    return _to_next_barrier(passage, recipe, out, stage=0, decisions=None, ordinal=ordinal, file=file, as_of=as_of)


def resume_segment(
    files: Mapping[str, Path],
    decisions: Path,
    recipe: Recipe,
    out: Path,
    *,
    stage: int,
    ordinal: int,
    file: int,
    as_of: date,
) -> Result:
    """Takes a segment over the barrier number `stage`, counted from 1, to the next one or to its end.

    `files` are those of its passage, `decisions` what was decided on it at the barrier.
    """
    passage, decided = Passage.take_up(files), pl.read_ipc(decisions)
    return _to_next_barrier(
        passage, recipe, out, stage=stage, decisions=decided, ordinal=ordinal, file=file, as_of=as_of
    )


def decide(
    stages: Sequence[StageResult], locate: Callable[[Part], Path], recipe: Recipe, out: Path, *, stage: int
) -> list[Part]:
    """Decides at the barrier number `stage`, counted from 1, on all segments in order.

    `locate` fetches a part of theirs. Returns a part in `out/decisions` for each.
    """
    op, config, _ = recipe.steps[recipe.barriers[stage - 1]]
    assert op.barrier is not None
    shards = [
        Shard(pl.scan_ipc(locate(one.survey)), lambda turns=one.turns: pl.scan_ipc(locate(turns)))  # type: ignore[misc]
        for one in stages
    ]
    give_back()  # what segments needed, since all of them are now looked at together
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        decided = op.barrier.decide(shards, config, Path(scratch))
    return [_put(frame, out, f"decisions/{stage}-{ordinal:05d}.arrow") for ordinal, frame in enumerate(decided)]


def _to_next_barrier(
    passage: Passage,
    recipe: Recipe,
    out: Path,
    *,
    stage: int,
    decisions: pl.DataFrame | None,
    ordinal: int,
    file: int,
    as_of: date,
) -> Result:
    steps = recipe.bind(as_of)
    bounds = [0, *recipe.barriers, len(steps)]
    for index in range(bounds[stage], bounds[stage + 1]):
        passage = passage.after(steps[index], decisions if index == bounds[stage] else None)
    if stage == len(recipe.barriers):
        made = passage.finished(recipe, file)
        name = f"{ordinal:05d}.parquet"
        return SegmentResult(
            segment=_write(made.rows, out, f"segments/{name}"),
            trace=_write(made.trace, out, f"trace/{name}"),
            dropped=_write(made.dropped, out, f"dropped/{name}"),
            counts=made.counts,
        )
    waiting = steps[bounds[stage + 1]]
    assert waiting.operator.barrier is not None
    place = f"stages/{stage}-{ordinal:05d}"
    parts = {name: _put(frame, out, f"{place}/{name}.arrow") for name, frame in passage.frames().items()}
    survey = waiting.operator.barrier.survey(passage.dialogues, waiting.config, waiting.resources)
    return StageResult(**parts, survey=_put(survey, out, f"{place}/survey.arrow"))


def curate_frame(raw: pl.DataFrame, recipe: Recipe, *, as_of: date, file: int = 0) -> Curated:
    """Curates conversations in memory, as if there were no others: rows of RAW_SCHEMA whose ids differ."""
    passage = Passage.begin(raw)
    for step in recipe.bind(as_of):
        passage = passage.after(step)
    return passage.finished(recipe, file)


def close_version(
    results: Sequence[SegmentResult],
    recipe: Recipe,
    folder: Path,
    *,
    as_of: date | None,
    warnings: Iterable[str] = (),
) -> dict[str, Any]:
    """Writes the tag counts and the manifest of a version whose segments lie in `folder`; returns the manifest."""
    tags = _write(count_tags(folder / result.segment.path for result in results), folder, "tags.parquet")
    counts = sum_counts([result.counts for result in results], [op.kind for op, _, _ in recipe.steps])
    all_warnings = list(dict.fromkeys([*warnings, *recipe.warnings]))
    if counts["conversations_kept"] == 0:
        all_warnings.append(NOTHING_KEPT)
    manifest = {
        "format": MANIFEST_FORMAT,
        "digest": digest_rows(folder / result.segment.path for result in results),
        "recipe": recipe.resolved,
        "recipe_fingerprint": recipe.fingerprint,
        "as_of": None if as_of is None else as_of.isoformat(),
        "bounds": recipe.bounds,
        "counts": counts,
        "warnings": all_warnings,
        "software": {"talkmill": version("talkmill")},
        "segments": [asdict(result.segment) for result in results],
        "trace": [asdict(result.trace) for result in results],
        "dropped": [asdict(result.dropped) for result in results],
        "tags": asdict(tags),
    }
    write_json(manifest, folder / "manifest.json")
    return manifest


def sum_counts(counts: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> dict[str, Any]:
    """Adds up the counts of segments; each of `kinds` is there even if it did nothing."""
    total: dict[str, Any] = {name: sum(one[name] for one in counts) for name in COUNTED}
    by_operator: dict[str, Any] = {}
    for kind in kinds:
        mine = [one["by_operator"][kind] for one in counts]
        codes = sorted({code for one in mine for code in one["codes"]})
        by_operator[kind] = {
            **{name: sum(one[name] for one in mine) for name in ("edited", "dropped_turns", "dropped_conversations")},
            "codes": {code: sum(one["codes"].get(code, 0) for one in mine) for code in codes},
        }
    return {**total, "by_operator": by_operator}


def _read_raw(raw: Path, ids: Mapping[int, str]) -> pl.DataFrame:
    frame = scan_raw(raw).collect()
    if not ids:
        return frame
    new = pl.col("line").replace_strict(dict(ids), default=None, return_dtype=pl.String)
    return frame.with_columns(id=pl.coalesce(new, "id"))


def _write(frame: pl.DataFrame, out: Path, name: str) -> Part:
    write_parquet(frame, out / name)
    return _part(out, name, frame.height)


def _put(frame: pl.DataFrame, out: Path, name: str) -> Part:
    write_arrow(frame, out / name, packed=True)
    return _part(out, name, frame.height)


def _part(out: Path, name: str, rows: int) -> Part:
    path = out / name
    return Part(name, file_sha256(path), path.stat().st_size, rows)
