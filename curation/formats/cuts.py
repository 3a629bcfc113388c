"""Ingest of JSON lines cut by cut: each cut alone gives one raw segment, in this process or in another."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from curation.formats.conversations import parse_record
from curation.formats.detect import Detection
from curation.formats.encodings import RecordError
from curation.formats.ingested import Quarantine, RawSegment, write_segment
from curation.formats.json_lines import Cut, find_cuts, read_cut
from curation.formats.messages import Record
from curation.formats.readers import read_value
from curation.formats.roles import Speakers
from curation.formats.streams import BrokenStreamError, read_chunks
from curation.processes import Spread


@dataclass(frozen=True)
class Job:
    """One cut to read, and where to."""

    source: Path
    cut: Cut
    out: Path
    number: int
    form: str
    name: str
    """Of conversations without an id."""
    speakers: Speakers
    suffix: str
    """Of raw segments' names: their format."""


@dataclass(frozen=True)
class Plain:
    """A file's decompressed bytes, and, if its stream breaks off, the line that is cut and the reason."""

    path: Path
    broken: tuple[int, str] | None = None


def ingest_cuts(
    source: Path,
    out: Path,
    detection: Detection,
    name: str,
    speakers: Speakers,
    cut_bytes: int,
    spread: Spread,
    on_progress: Callable[[int], None] | None,
    suffix: str,
) -> list[RawSegment] | None:
    """Writes the raw segments and the quarantine's parts; None if the file is better read record by record."""
    plain = _unpacked(source, detection.compression, out)
    cuts = find_cuts(plain.path, cut_bytes)
    if cuts is None:
        return None
    jobs = [
        Job(plain.path, cut, out, index, detection.format, name, speakers, suffix) for index, cut in enumerate(cuts)
    ]
    segments = []
    for job, (segment, seen) in zip(jobs, spread(read_job, jobs), strict=True):
        speakers.meet(seen)
        if segment is not None:
            segments.append(segment)
        if on_progress is not None:
            on_progress(job.cut.end)
    if plain.broken is not None:
        Quarantine(out).add([plain.broken], f"{len(jobs):05d}")
    if plain.path != source:
        plain.path.unlink()
    return segments


def _unpacked(source: Path, compression: str | None, folder: Path) -> Plain:
    """The file itself if it is plain; else its whole lines in `folder`."""
    if compression is None:
        return Plain(source)
    target = folder / "unpacked.jsonl"
    lines, position, end, broken = 1, 0, 0, None
    with target.open("wb") as file:
        try:
            for chunk in read_chunks(source, compression):
                file.write(chunk)
                lines += chunk.count(b"\n")
                end = position + newest + 1 if (newest := chunk.rfind(b"\n")) >= 0 else end
                position += len(chunk)
        except BrokenStreamError as error:
            broken = lines, str(error)
            file.truncate(end)
    return Plain(target, broken)


def read_job(job: Job) -> tuple[RawSegment | None, dict[str, str | None]]:
    """Writes a cut's raw segment, if any line of it is good, and its bad lines; with the speakers met."""

    def read_one(content: bytes) -> Record | str | None:
        if not content.strip():
            return None
        try:
            value = read_value(content, "utf-8")
            if isinstance(value, RecordError):
                return str(value)
            return parse_record(value, job.speakers, {}, job.form)
        except RecordError as error:
            return str(error)

    found = read_cut(job.source, job.cut, job.form, job.speakers, job.name, read_one)
    Quarantine(job.out).add(found.bad, f"{job.number:05d}")
    if found.rows.is_empty():
        return None, job.speakers.seen
    return write_segment(found.rows, job.out / "raw" / f"{job.number:05d}{job.suffix}"), job.speakers.seen
