"""Says where the reading of a file begins: at its beginning or end, behind a hole, where a power cut took the end."""

import errno
import os

import msgspec

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, MARK_BYTES, digest, mark_digest, shorten_trail, trail_of
from sidecar.inputs.tail.open_file import OpenFile, next_data, open_source
from sidecar.parsing import last_end, swap_ends
from sidecar.text.encodings import HEAD_BYTES as CODEC_BYTES
from sidecar.text.encodings import codec_of

_NULS = bytes(8)
_SEARCH_BYTES = 1 << 20
_CLOCKS_DIFFER_MS = 1000
_BEFORE_SEEN_MS = 86_400_000
"""A file that was last written to within a day before it was last seen was not touched by a clock that was wrong."""


def seen_beginning(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint of a file of which nothing is taken yet with its beginning, if that can be read.

    Raises FileNotFoundError if another file is there by now.
    """
    try:
        source = open_source(checkpoint.at)
        try:
            identity, head = (source.device, source.inode), source.read(HEAD_BYTES, 0)
        finally:
            source.close()
    except FileNotFoundError:
        raise
    except (OSError, EOFError):
        return checkpoint
    if identity != (checkpoint.device, checkpoint.inode):
        raise FileNotFoundError(errno.ENOENT, "renamed meanwhile", checkpoint.at)
    return msgspec.structs.replace(checkpoint, head=digest(head), head_bytes=len(head))


def at_end_of(
    checkpoint: Checkpoint, max_line: int, encoding: str, line_end: str | None, *, whole: bool = True
) -> Checkpoint:
    """Return the checkpoint behind the last `whole` line that is there now; else behind all, inside the last line."""
    source = open_source(checkpoint.at)
    try:
        size = source.state().st_size
        codec = codec_of(encoding, source.read(CODEC_BYTES, 0))
        start = max(0, size - max_line) // codec.width * codec.width
        offset = last = start + last_end(swap_ends(source.read(size - start, start), line_end), codec)
        if not whole:
            offset = size - size % codec.width
        head = source.read(min(HEAD_BYTES, offset), 0)
        mark = source.read(min(MARK_BYTES, offset), max(0, offset - MARK_BYTES))
    finally:
        source.close()
    return msgspec.structs.replace(
        checkpoint, offset=offset, head=digest(head), head_bytes=len(head), mark=mark, inside_line=offset > last
    )


def behind_hole(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint behind the hole that a writer leaves who does not notice a truncation."""
    offset = next_data(checkpoint.at)
    head, mark = bytes(min(HEAD_BYTES, offset)), bytes(min(MARK_BYTES, offset))
    return msgspec.structs.replace(checkpoint, offset=offset, head=digest(head), head_bytes=len(head), mark=mark)


def where_cut(known: Checkpoint, here: os.stat_result | None, encoding: str, booted_ms: int) -> Checkpoint | None:
    """Return where a file goes on if the host went down and took its end; None if it is another file.

    `here`: what stands at its place. Of a file with a time far from when it was seen the clock may have been wrong:
    that tells nothing.
    """
    if here is None:
        return None
    modified_ms = here.st_mtime_ns // 1_000_000
    untouched = known.seen_ms - _BEFORE_SEEN_MS < modified_ms < booted_ms - _CLOCKS_DIFFER_MS
    try:
        return _behind_cut(known, encoding, untouched=untouched)
    except (OSError, EOFError):
        return None


def _behind_cut(known: Checkpoint, encoding: str, *, untouched: bool) -> Checkpoint | None:
    """Return the checkpoint where a file goes on whose end a power cut took; None if it is not such a file.

    `untouched`: nobody wrote to it since the host is up. The end may be missing, or consist of NULs. Where somebody
    wrote on, what was read before is known to be there only up to a place of the trail: from there it is read again.
    Raises OSError or EOFError.
    """
    source = open_source(known.at)
    try:
        if source.compressed or (source.device, source.inode) != (known.device, known.inode):
            return None
        size = source.state().st_size
        begins = source.read(known.head_bytes, 0)
        same_head = len(begins) == known.head_bytes and digest(begins) == known.head
        places = (one for one, seen in trail_of(known.trail) if one <= size and _before(source, one) == seen)
        place = next(places, known.head_bytes if same_head else None)
        if place is None:
            return None
        width = codec_of(encoding, source.read(CODEC_BYTES, 0)).width
        nuls = _first_nuls(source, place, min(size, known.offset)) if width == 1 else None
        if size >= known.head_bytes and nuls is None and not same_head:
            return None
        if nuls is not None:
            place = nuls
        elif untouched:
            place = min(size - size % width, known.offset)
        elif size < known.head_bytes:
            return None  # too little is left to tell it from a file that begins in the same way
        head = begins[: min(known.head_bytes, place)]
        mark = source.read(min(MARK_BYTES, place), max(0, place - MARK_BYTES))
    finally:
        source.close()
    return msgspec.structs.replace(
        known, offset=place, head=digest(head), head_bytes=len(head), mark=mark, inside_line=False,
        trail=shorten_trail(known.trail, place),
    )  # fmt: skip


def _before(source: OpenFile, place: int) -> bytes:
    return mark_digest(source.read(min(MARK_BYTES, place), max(0, place - MARK_BYTES)))


def _first_nuls(source: OpenFile, start: int, end: int) -> int | None:
    """Return where, between `start` and `end`, bytes begin that nobody wrote; None if there are none."""
    while start < end:
        data = source.read(min(_SEARCH_BYTES, end - start), start)
        if not data:
            return None
        found = data.find(_NULS)
        if found < 0 and start + len(data) >= end and data.endswith(b"\0"):
            found = len(data.rstrip(b"\0"))
        if found >= 0:
            return start + found
        start += max(1, len(data) - len(_NULS))
    return None
