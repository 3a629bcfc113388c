"""Bytes of a file as they were before compression, cut into lines; nothing is ever held but a piece.

A stream that breaks off (a truncated upload, a bad checksum) gives everything up to there; the break is told as the
reason of the record it cuts.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from curation.errors import InputError

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 * 2**20
BOM = b"\xef\xbb\xbf"
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
MAX_RATIO = 200
"""Text compresses by 3 to 30; what expands further than this is an attack on memory or disk."""
ALWAYS_ALLOWED_BYTES = 64 * 2**20
MAX_WINDOW_BYTES = 1 << 27
FED_BYTES = {"gzip": 1 << 14, "zstd": 1 << 10}
"""Compressed bytes given to a decoder at once: even a bomb of them expands to some megabytes only."""


class BrokenStreamError(Exception):
    """The stream ends before its end; raised after the last byte that could be read."""


@dataclass(frozen=True)
class Line:
    """A line's bytes with its end, or why they are not to be had; and where it stands."""

    number: int
    offset: int
    content: bytes | None
    reason: str | None = None


def compression_of(head: bytes) -> str | None:
    """gzip, zstd or None, by a file's first bytes."""
    if head.startswith(GZIP):
        return "gzip"
    return "zstd" if head.startswith(ZSTD) else None


def read_chunks(source: Path, compression: str | None) -> Iterator[bytes]:
    """The file's decompressed bytes without a byte order mark, about a megabyte at a time.

    Raises:
        BrokenStreamError: at the end, when the compressed data is cut off or corrupt.
        InputError: the data expands without measure.
    """
    with source.open("rb") as file:
        if compression is None:
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        else:
            limit = max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * source.stat().st_size)
            chunks = _gathered(_limited(_decompressed(file, compression), limit))
        first = True
        for chunk in chunks:
            yield chunk.removeprefix(BOM) if first else chunk
            first = False


def read_lines(chunks: Iterator[bytes]) -> Iterator[Line]:
    """Lines, blank ones too; of one that is too long, or cut by a broken stream, only its place and the reason."""
    number, offset, skipped, rest = 1, 0, 0, b""
    broken = None
    try:
        for chunk in chunks:
            *complete, rest = (rest + chunk).split(b"\n")
            for piece in complete:
                length = skipped + len(piece) + 1
                yield _line(number, offset, piece + b"\n", length)
                number, offset, skipped = number + 1, offset + length, 0
            if skipped + len(rest) > MAX_LINE_BYTES:
                skipped, rest = skipped + len(rest), b""
    except BrokenStreamError as error:
        broken = str(error)
    if broken is not None:
        yield Line(number, offset, None, broken)
    elif skipped or rest:
        yield _line(number, offset, rest, skipped + len(rest))


def _line(number: int, offset: int, content: bytes, length: int) -> Line:
    if length <= MAX_LINE_BYTES:
        return Line(number, offset, content)
    return Line(
        number, offset, None, f"the record is longer than {MAX_LINE_BYTES // 2**20} MiB: split the conversation"
    )


def _decompressed(file: BinaryIO, compression: str) -> Iterator[bytes]:
    """Every member's, or frame's, bytes; a new decoder for each."""
    new = {"gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), "zstd": _new_zstd}[compression]
    decoder, begun = new(), False
    for fed in iter(lambda: file.read(FED_BYTES[compression]), b""):
        data = fed
        while data and (begun or data.strip(b"\x00")):  # zeros may pad the last member
            begun = True
            before = decoder.copy() if compression == "gzip" else None
            try:
                yield decoder.decompress(data)
            except (zlib.error, _zstd_error()) as error:
                yield from _what_can_be_read(before, data)
                raise BrokenStreamError(f"the {compression} data is corrupt here ({type(error).__name__})") from None
            data = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder, begun = new(), False
    if begun:
        raise BrokenStreamError(f"the {compression} data is cut off here: was the upload complete?")


def _what_can_be_read(decoder: Any, data: bytes) -> Iterator[bytes]:
    """The output before an error, byte by byte: decoders keep to themselves what a failing call had read."""
    if decoder is not None:
        for index in range(len(data)):
            try:
                yield decoder.decompress(data[index : index + 1])
            except zlib.error:
                return


def _new_zstd() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError


def _limited(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise InputError(f"the file expands to more than {MAX_RATIO} times its size: send it uncompressed")
        yield chunk


def _gathered(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces as larger ones; what was gathered before a break is not lost."""
    pieces, size = [], 0
    try:
        for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= CHUNK_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
    except BrokenStreamError:
        yield b"".join(pieces)
        raise
    if pieces:
        yield b"".join(pieces)
